"""Elasticsearch 8.19 and 9: documents in indexes behind aliases."""

from sinks.elasticsearch.sink import ElasticsearchSink, Plugin

__all__ = ["ElasticsearchSink", "Plugin"]
