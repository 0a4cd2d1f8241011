-- Which products moved of late, for the feed of levels. The ledger grows at its end alone, so that
-- a summary for each range of pages finds them, and costs next to nothing to keep.
CREATE INDEX stock_movement_at ON stock_movement USING brin (at) WITH (autosummarize = on);
