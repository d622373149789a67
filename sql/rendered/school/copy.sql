-- Target: fills it.
copy pg_temp.schoolbell_c1e0685b0b700b41 from stdin (format binary)
