-- Target: fills it.
copy pg_temp.schoolbell_5ef6a0344cf5f0ff from stdin (format binary)
