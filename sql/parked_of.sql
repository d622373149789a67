-- What is parked of these keys. $1: object, $2: keys as they are parked.
select
    key,
    state,
    awaits,
    reason
from schoolbell.parked
where object = $1
    and key = any ($2)
