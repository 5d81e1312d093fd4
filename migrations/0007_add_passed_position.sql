-- How far the bridge itself may have moved the slot while a sink is parked, so that a slot
-- found beyond it was moved by somebody else.
alter table bridge.source add column passed_lsn pg_lsn;
