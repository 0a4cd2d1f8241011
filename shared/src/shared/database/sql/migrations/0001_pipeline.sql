-- The tables of the pipeline. Every service has its own, in its own schema.

-- One row for each message that was obeyed: a second copy is a duplicate, and the same id
-- with other content is a misuse. Never partitioned: the id must stay unique for its whole life.
CREATE TABLE inbox (
    message_type text        NOT NULL,
    message_id   text        NOT NULL,
    fingerprint  bytea       NOT NULL CHECK (octet_length(fingerprint) = 16),
    received_at  timestamptz NOT NULL DEFAULT now(),
    -- what a request was answered, to say it again: such rows are kept for good
    answers      jsonb,
    PRIMARY KEY (message_type, message_id)
);
-- The janitor deletes by age in ranges; a BRIN index costs the insert nothing.
CREATE INDEX inbox_received_at ON inbox USING brin (received_at);

-- A chunk is what one transaction wrote. It is the chunk that is marked as published, not the
-- row: one update for hundreds of messages.
CREATE TABLE outbox_chunk (
    chunk_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner        text        NOT NULL,
    -- rows of a public chunk are kept for a day after they are published, others go at once
    public       boolean     NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- until then the owner publishes; afterwards any instance may take the chunk over
    lease_until  timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX outbox_chunk_unpublished ON outbox_chunk (chunk_id) WHERE published_at IS NULL;
CREATE INDEX outbox_chunk_published ON outbox_chunk (public, published_at)
    WHERE published_at IS NOT NULL;

-- No foreign key to the chunk: both are written by one statement and deleted by one, and the
-- check would cost each row more than the row itself.
CREATE TABLE outbox (
    chunk_id     bigint  NOT NULL,
    position     integer NOT NULL,
    topic        text    NOT NULL,
    key          bytea,
    message_type text    NOT NULL,
    message_id   text    NOT NULL,
    value        bytea,
    -- W3C trace context, captured when the row is written
    traceparent  text,
    -- further headers, as a JSON object of text: those of a dead letter
    headers      text,
    PRIMARY KEY (chunk_id, position)
);

-- Who may do what only one instance may do at a time. The token rises with each new holder.
CREATE TABLE lease (
    name   text        PRIMARY KEY,
    holder text        NOT NULL,
    token  bigint      NOT NULL,
    until  timestamptz NOT NULL
);
