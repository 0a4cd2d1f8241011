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
    PRIMARY KEY (message_id, message_type)
);
-- The janitor deletes by age in ranges; a BRIN index costs the insert nothing.
CREATE INDEX inbox_received_at ON inbox USING brin (received_at);

-- A row is what one transaction has to say on topics of one kind: it is written, published and
-- marked as one, and costs one row whether it holds one message or hundreds.
CREATE TABLE outbox (
    chunk_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner        text        NOT NULL,
    -- public chunks are kept for a day after they are published, internal ones are deleted at once
    public       boolean     NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- until then the owner publishes; afterwards any instance may take the chunk over
    lease_until  timestamptz NOT NULL,
    published_at timestamptz,
    -- in the order in which they are to be published; `outbox_message` says what stands where
    messages     json        NOT NULL
);
CREATE INDEX outbox_unpublished ON outbox (chunk_id) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;
-- Compressing costs more than it saves on rows that live for moments.
ALTER TABLE outbox ALTER COLUMN messages SET STORAGE EXTERNAL;

-- The messages of the outbox one by one. The context is W3C's, captured when the message is
-- written. Keys, values and headers of dead letters that are no text stand as {"base64": ...}.
CREATE VIEW outbox_message AS
SELECT outbox.chunk_id, message.position, message.fields ->> 0 AS topic,
       message.fields ->> 1 AS key, message.fields ->> 2 AS message_type,
       message.fields ->> 3 AS message_id, message.fields ->> 4 AS traceparent,
       message.fields ->> 5 AS value, message.fields -> 6 AS headers
FROM outbox, json_array_elements(outbox.messages) WITH ORDINALITY AS message (fields, position);

-- Who may do what only one instance may do at a time. The token rises with each new holder.
CREATE TABLE lease (
    name   text        PRIMARY KEY,
    holder text        NOT NULL,
    token  bigint      NOT NULL,
    until  timestamptz NOT NULL
);
