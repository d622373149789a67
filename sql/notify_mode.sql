-- When the installed triggers notify; the service asks, to know whether anybody will wake it.
insert into schoolbell.installation (notify_mode)
values ('{mode}')
on conflict (single) do update
set notify_mode = excluded.notify_mode
