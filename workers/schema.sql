-- The tables of the examples. PostgreSQL's container runs this once; by hand: psql -f workers/schema.sql
CREATE TABLE IF NOT EXISTS accounts (id int PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE IF NOT EXISTS transfers (
    key uuid PRIMARY KEY, source int NOT NULL REFERENCES accounts, target int NOT NULL REFERENCES accounts,
    amount bigint NOT NULL, made_by text NOT NULL, made_at timestamptz NOT NULL DEFAULT now());
INSERT INTO accounts SELECT number, 'owner ' || number, 1000000 FROM generate_series(1, 100) number ON CONFLICT DO NOTHING;
