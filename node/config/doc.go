// Package config is the configuration of one node: the file deckle.yaml, read strictly, completed and checked.
//
// # Promise
//
// Load returns a configuration that is complete (every default is filled in, every secret is fetched) and makes sense,
// or an *Error that names every mistake that can be told at once, each with line, column, key and what to do about it.
// No value of a secret appears in anything that is printed, logged or encoded.
//
//	deckle.yaml ─► YAML tree ─► decode: variables, types, unknown keys ─► --set ─► secrets ─► defaults ─► checks
//	Config built in Go ────────────────────────────────────────────────► defaults ─► checks     (Complete)
//
// # Invariants
//
//  1. A key is said once: as the yaml tag of its field. The fixed default stands beside it as the default tag, written
//     as it would be in the file; the defaults that depend on other keys stand in Config.derive. deckle.example.yaml
//     names every key, and a test compares the values that it shows with the defaults.
//  2. Decoding goes on after a problem, and a check does not repeat what decoding has said about the same key.
//  3. Complete changes nothing in a Config that is complete.
//  4. A secret is the name of an environment variable or of a file. A literal is refused without being repeated.
//  5. Variables (${NAME}) stand in single values alone, and are replaced before a value is read by the type of its key.
//     So no variable makes a key, a list or a block, and none is a secret. What --set says is not expanded again: the
//     shell has done it.
//  6. docs/configuration.md and docs/deckle.schema.json are made from the fields, their tags and their comments
//     (TestReference): a field without a comment fails.
//
// # Assumptions
//
// In a Config built in Go, a field that is zero cannot be told from one that is missing, and gets its default. In the
// file a zero that would become something else is refused: no value comes to be that nobody has asked for. The zero of
// limits.unflushed_epochs and false mean what they say.
//
// # Limits
//
// One YAML document, in UTF-8, with or without a byte-order mark. Anchors, aliases, tags and merge keys are refused:
// people read a configuration first.
//
// # Rejected
//
// Decoding with the YAML library itself: its strict mode stops at the first mistake and knows no place for checks of
// values that come later. Environment variables that override any key: two places for one value. A library that makes
// JSON Schema from structs: durations, sizes, secrets and variables need types of their own in any of them.
package config
