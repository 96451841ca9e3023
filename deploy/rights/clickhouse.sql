-- The rights in ClickHouse that Deckle needs, and no others. Replace analytics (clickhouse.database), deckle
-- (clickhouse.user) and the password.
CREATE USER IF NOT EXISTS deckle IDENTIFIED BY 'CHANGE ME';

-- Needless where the database exists.
GRANT CREATE DATABASE ON analytics.* TO deckle;
-- The tables and views, once.
GRANT CREATE TABLE ON analytics.* TO deckle;
GRANT CREATE VIEW ON analytics.* TO deckle;
-- A later level: its columns, what the former ones say, and its views in place of the former ones.
GRANT ALTER ADD COLUMN ON analytics.* TO deckle;
GRANT ALTER COMMENT COLUMN ON analytics.* TO deckle;
GRANT DROP VIEW ON analytics.* TO deckle;
-- Rows, and what was written before.
GRANT INSERT ON analytics.* TO deckle;
GRANT SELECT ON analytics.* TO deckle;
-- What tables there are, and how they are made.
GRANT SELECT ON system.tables TO deckle;
GRANT SELECT ON system.columns TO deckle;
GRANT SELECT ON system.merge_tree_settings TO deckle;
