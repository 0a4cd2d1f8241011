-- Calls that stand still until something else happens are few, and found without reading all calls.
CREATE INDEX gateway_call_held ON gateway_call (state) WHERE state IN ('WAITING', 'QUARANTINED');
