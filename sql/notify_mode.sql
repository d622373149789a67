-- When the installed triggers notify; the service asks, to know whether anybody will wake it.
create or replace function schoolbell.notify_mode() returns text
language sql immutable as $schoolbell$select '{mode}'::pg_catalog.text$schoolbell$
