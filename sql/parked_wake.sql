-- What these keys waited for has arrived: they are due. $1: what, $2: whose.
update schoolbell.parked
set due_at = pg_catalog.clock_timestamp()
where state = 'waiting'
    and due_at is null
    and awaits = $1
    and awaits_key = any ($2)
