-- Unfinished resyncs that were asked for with another mapping. $1: the fingerprints of this one's
-- objects.
select count(*)
from schoolbell.resync
where state in ('queued', 'running')
    and mapping <> all ($1::text[])
