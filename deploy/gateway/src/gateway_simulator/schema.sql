-- The book. Whatever the code does, a key has one outcome, and refunds never exceed their charge.
-- Moments are milliseconds since the epoch.

CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE charge (
  number INTEGER PRIMARY KEY,
  key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  status TEXT NOT NULL CHECK (status IN ('captured', 'declined', 'processing')),
  amount INTEGER NOT NULL CHECK (amount > 0),
  currency TEXT NOT NULL CHECK (length(currency) = 3),
  reference TEXT NOT NULL,
  customer TEXT NOT NULL,
  refunded INTEGER NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
  decline_code TEXT CHECK ((decline_code IS NOT NULL) = (status = 'declined')),
  created_ms INTEGER NOT NULL,
  settle_ms INTEGER CHECK ((settle_ms IS NOT NULL) = (status = 'processing')),
  callback_url TEXT,
  mishap TEXT,                            -- what befalls its webhooks, NULL for nothing
  copies INTEGER NOT NULL CHECK (copies > 0),
  CHECK (refunded = 0 OR status = 'captured')
) STRICT;
CREATE INDEX charge_to_settle ON charge (settle_ms) WHERE settle_ms IS NOT NULL;

CREATE TABLE refund (
  number INTEGER PRIMARY KEY,
  key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  charge INTEGER NOT NULL REFERENCES charge,
  status TEXT NOT NULL CHECK (status IN ('succeeded', 'processing')),
  amount INTEGER NOT NULL CHECK (amount > 0),
  currency TEXT NOT NULL CHECK (length(currency) = 3),
  created_ms INTEGER NOT NULL,
  settle_ms INTEGER CHECK ((settle_ms IS NOT NULL) = (status = 'processing')),
  callback_url TEXT,
  mishap TEXT,
  copies INTEGER NOT NULL CHECK (copies > 0)
) STRICT;
CREATE INDEX refund_of_charge ON refund (charge);
CREATE INDEX refund_to_settle ON refund (settle_ms) WHERE settle_ms IS NOT NULL;

-- No refund is in the book without being counted, and the count is bounded by the charge's CHECK.
CREATE TRIGGER refund_counts AFTER INSERT ON refund BEGIN
  UPDATE charge SET refunded = refunded + NEW.amount WHERE number = NEW.charge;
END;

-- What a key stands for. A refusal that left nothing in the book leaves nothing here.
CREATE TABLE key (
  name TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  charge INTEGER REFERENCES charge,
  refund INTEGER REFERENCES refund,
  created_ms INTEGER NOT NULL,
  CHECK ((charge IS NULL) <> (refund IS NULL))
) STRICT, WITHOUT ROWID;

-- Requests that were taken and are applied later; until then nobody who asks finds a trace.
CREATE TABLE late (
  number INTEGER PRIMARY KEY,
  operation TEXT NOT NULL CHECK (operation IN ('charge', 'refund')),
  key TEXT NOT NULL,
  body TEXT NOT NULL,
  mishap TEXT,
  copies INTEGER NOT NULL,
  due_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX late_due ON late (due_ms);

CREATE TABLE event (
  number INTEGER PRIMARY KEY,
  subject TEXT NOT NULL,                  -- the charge or refund it tells of
  position INTEGER NOT NULL,              -- events of a subject are sent in this order
  url TEXT NOT NULL,
  body TEXT NOT NULL,
  copies INTEGER NOT NULL CHECK (copies >= 0),  -- still to be taken by the receiver
  forged INTEGER NOT NULL CHECK (forged IN (0, 1)),
  state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dropped', 'given_up')),
  attempts INTEGER NOT NULL DEFAULT 0,
  created_ms INTEGER NOT NULL,
  due_ms INTEGER                          -- NULL: held back until the subject settles
) STRICT;
CREATE INDEX event_due ON event (due_ms) WHERE state = 'pending';
CREATE INDEX event_order ON event (subject, position) WHERE state = 'pending';

CREATE VIEW deliverable AS
SELECT * FROM event AS this
WHERE state = 'pending' AND due_ms IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM event AS earlier
  WHERE earlier.state = 'pending' AND earlier.subject = this.subject
    AND earlier.position < this.position
);

-- How often each rule struck, and how many requests came under each key, since the rules were set.
CREATE TABLE strike (rule INTEGER PRIMARY KEY, struck INTEGER NOT NULL) STRICT;
CREATE TABLE attempt (
  operation TEXT NOT NULL, key TEXT NOT NULL, requests INTEGER NOT NULL,
  PRIMARY KEY (operation, key)
) STRICT, WITHOUT ROWID;
