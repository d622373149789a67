-- Target: fills it.
copy pg_temp.schoolbell_43a633cd5ffe3932 from stdin (format binary)
