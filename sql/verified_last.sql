-- When each object was last compared as a whole, and what was found.
select
    object,
    verified_at,
    seconds,
    rows,
    equal,
    missing,
    differing,
    unexpected,
    unreadable,
    in_flight,
    parked,
    kept
from schoolbell.verified
order by object
