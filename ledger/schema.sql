-- The tables of the ledger, version 1. The function makes them itself where its user may
-- create tables; where it may not, apply this file once as the role that is to own them:
--
--     psql --set ON_ERROR_STOP=1 --single-transaction --file schema.sql DATABASE
--     GRANT SELECT, INSERT, UPDATE, DELETE ON coffeebuddy_ledger, coffeebuddy_outbox TO …;

CREATE TABLE coffeebuddy_ledger (
    key    bytea PRIMARY KEY,    -- SHA-256 of the function, receiver, sender, source and id
    owner  bytea NOT NULL,       -- chosen at random for each claim: only the owner may settle
    data   bytea NOT NULL,       -- SHA-256 of the event's data, which a duplicate must share
    until  timestamptz NOT NULL, -- end of the lease, and once settled, of the record
    sweep  timestamptz NOT NULL, -- when the row may be deleted, if until has passed as well
    record bytea                 -- how the event was answered; NULL while it is being received
) WITH (fillfactor = 80);        -- no index has until or record: settling rewrites no index entry

CREATE INDEX coffeebuddy_ledger_sweep ON coffeebuddy_ledger (sweep);

CREATE TABLE coffeebuddy_outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app     text NOT NULL,       -- the function that sends it, COFFEEBUDDY_APP_NAME
    source  text NOT NULL,       -- events of one source are sent in the order of their ids, which
                                 -- is their order where one transaction began after the other ended
    event   bytea NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp(),
    refused timestamptz          -- when the sink refused it for good; NULL while it is to be sent
);

CREATE INDEX coffeebuddy_outbox_next ON coffeebuddy_outbox (app, id) WHERE refused IS NULL;
CREATE INDEX coffeebuddy_outbox_refused ON coffeebuddy_outbox (app) WHERE refused IS NOT NULL;

COMMENT ON TABLE coffeebuddy_ledger IS 'coffeebuddy ledger, version 1';
