-- Which cluster and database this is.
select (select system_identifier::text from pg_control_system()) as system_identifier,
       current_database()::text as database
