--
-- Schedules as SQL sees them: job_next_runs() and its errors.  The calendar
-- itself is tested in t/unit.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';

-- forms of schedules
SELECT job_next_runs('0 */6 * * *', after => '2026-03-01 00:00Z', count => 3);
SELECT job_next_runs('30 0 3 * * MON-FRI', after => '2026-03-06 12:00Z', count => 2);
SELECT job_next_runs('@monthly', after => '2026-01-31 00:00Z', count => 2);
SELECT job_next_runs('0 0 0 29 2 *', after => '2026-01-01 00:00Z', count => 2);
SELECT job_next_runs('0 9 L * *', after => '2026-01-31 09:00Z', count => 3);
SELECT job_next_runs('0 9 15W * *', after => '2026-01-31 09:00Z', count => 2);
SELECT job_next_runs('0 9 * * 5#3', after => '2026-01-31 09:00Z', count => 2);
SELECT job_next_runs('every 90 seconds', after => '2026-01-01 00:00Z', count => 3);
SELECT count(*) FROM job_next_runs('@hourly');
SELECT count(*) FROM job_next_runs('@reboot');

-- local midnight, the first of the month, Mondays at three (R-02)
SET timezone = 'Pacific/Auckland';
SELECT job_next_runs('@daily', 'Pacific/Auckland', '2026-04-04 12:00+13', 2);
SELECT job_next_runs('@monthly', 'Pacific/Auckland', '2026-03-31 12:00+13', 2);
SELECT job_next_runs('0 3 * * MON', 'Pacific/Auckland', '2026-04-05 12:00+12', 2);
SET timezone = 'UTC';

-- an occurrence lies strictly after the given time (R-04): midnight of the
-- first of a month is followed by that of the next
SELECT job_next_runs('@monthly', after => '2026-02-01 00:00Z', count => 2);
SELECT job_next_runs('0 0 * * *', after => '2026-01-01 00:00Z', count => 1);

-- time zones: a gap, a repeated hour, half an hour, a day that never was
SET timezone = 'Europe/Berlin';
SELECT job_next_runs('30 2 * * *', 'Europe/Berlin', '2026-03-28 00:00+01', 3);
SELECT job_next_runs('30 2 * * *', 'Europe/Berlin', '2026-10-24 12:00+02', 2);
SELECT job_next_runs('*/30 * * * *', 'Europe/Berlin', '2026-10-25 01:30+02', 5);
SET timezone = 'Australia/Lord_Howe';
SELECT job_next_runs('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03 00:00+10:30', 2);
SET timezone = 'Pacific/Apia';
SELECT job_next_runs('0 12 * * *', 'Pacific/Apia', '2011-12-29 00:00-10', 3);
SET timezone = 'UTC';

-- what is refused, and how it says so
\set VERBOSITY terse
SELECT job_next_runs('');
SELECT job_next_runs('* * * *');
SELECT job_next_runs('* * * * * * *');
SELECT job_next_runs('0 61 * * * *');
SELECT job_next_runs('0 24 * * *');
SELECT job_next_runs('*/60 * * * *');
SELECT job_next_runs('0 0 * * FRI-MON');
SELECT job_next_runs('0 0 * JANUAR *');
SELECT job_next_runs('@dayly');
SELECT job_next_runs('every fortnight');
SELECT job_next_runs('every 0 seconds');
-- nothing is more frequent than each second (R-05)
SELECT job_next_runs('every 500 milliseconds');
SELECT job_next_runs('every 0.5 seconds');
SELECT job_next_runs(NULL);
SELECT job_next_runs('@daily', NULL);
SELECT job_next_runs('@daily', 'Europe/Berlim');
SELECT job_next_runs('@daily', 'UTC+2');
SELECT job_next_runs('@daily', 'CEST-2');
SELECT job_next_runs('@daily', '');
SELECT job_next_runs('@daily', count => 0);
SELECT job_next_runs('@daily', count => 10001);
\set VERBOSITY default
SELECT job_next_runs('@daily', 'Mars/Olympus');

-- zone names with digits that mean what they say
SELECT job_next_runs('@daily', 'Etc/GMT-2', '2026-01-01 00:00Z', 1);
SELECT job_next_runs('@daily', 'EST5EDT', '2026-01-01 00:00Z', 1);

-- at the ends of time
SELECT job_next_runs('@yearly', after => '-infinity', count => 1);
SELECT job_next_runs('@yearly', after => 'infinity', count => 1);

DROP EXTENSION pg_janitor;
