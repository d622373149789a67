-- Unfinished resyncs that were asked for with another mapping. $1: what stands for the objects of this one.
select count(*)
from schoolbell.resync
where state in ('queued', 'running')
    and mapping <> all ($1::text[])
