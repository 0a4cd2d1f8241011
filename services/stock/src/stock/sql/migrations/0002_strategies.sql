-- Which strategy decides on a product now, and what fences a change of it.

ALTER TABLE product
    -- the strategy at work: the operator's, or what was chosen for `auto`
    ADD COLUMN active     text   NOT NULL DEFAULT 'optimistic'
                          CHECK (active IN ('optimistic', 'pessimistic', 'redis')),
    -- rises when `active` changes: what was admitted under another epoch was not admitted
    ADD COLUMN epoch      bigint NOT NULL DEFAULT 1 CHECK (epoch > 0),
    -- rises when the counter in Redis is written anew, or can't be trusted any more
    ADD COLUMN generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0);
-- That `active` is the strategy unless that is `auto` is no constraint yet: instances of the version
-- before write the strategy alone.

-- The products that are sold by a counter in Redis are few, and asked for often.
CREATE INDEX product_hot ON product (product_id) WHERE active = 'redis';
