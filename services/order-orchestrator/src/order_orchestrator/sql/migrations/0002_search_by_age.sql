-- Operators list orders by age, newest or oldest first, and never by a scan of the table.
-- `accepted_at` never changes, so that updates stay on their page (HOT) as before, and its entries
-- go in at the right end: the cheapest index there is. Users and reasons have none on purpose: see
-- `sql/searches.sql`. On a table of a million orders it takes seconds, and writers wait for it.
CREATE INDEX saga_accepted ON saga (accepted_at);
