-- When the installed triggers notify; the service reads it, to know whether anything will wake it.
insert into schoolbell.installation (notify_mode)
values ('{mode}')
on conflict (single) do update
set notify_mode = excluded.notify_mode
