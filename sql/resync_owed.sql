-- Whether a resync that replaces changes of an object is not finished. $1: object.
select
    exists (
        select
        from schoolbell.resync
        where object = $1
            and state in ('queued', 'running')
            and not asked
    )
