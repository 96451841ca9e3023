// Package event is the schema of a reader event: its fields, the decoder of its JSON form, the reasons for which a
// record is refused, and the compact batch encoding that replicas exchange.
//
// # Promise
//
// Whatever bytes a Kafka record holds, Decoder.Decode either returns the one event that they mean or one reason why
// they mean none, the same on every machine and in every run; and a batch that went through AppendBatch and DecodeBatch
// is the same batch as before. No input makes either of them panic or use memory out of proportion.
//
// # Invariants
//
//   - E1 An accepted record is valid JSON (RFC 8259), valid UTF-8 and keeps every rule of docs/schema.md; so do the
//     texts of its event, including those that were written with escapes.
//   - E2 The verdict depends on the record's value, its Kafka timestamp and the rules alone, not on records decoded
//     before.
//   - E3 EngagementMetrics, Metadata and Extra are valid JSON texts, made of the record's own bytes, and from FormsReal
//     on of quotes around numbers: NormalizeJSON leaves them alone, so that all readers take them for one value
//     (TestJSONReaders of package integration).
//   - E4 Measure and Scroll are computed once, when the record is decoded; the batch carries the numbers. A later
//     version that reads engagement_metrics differently does not change what an old log says. The same holds for
//     Progress and Complete.
//   - E5 DecodeBatch(AppendBatch(b)) equals b, byte for byte in every text, except what AppendBatch leaves out, which
//     is empty. What DecodeBatch accepts passes Batch.Check, regardless of who wrote it.
//   - E6 Of a field under a privacy rule (Privacy), neither the event nor what Redactor shows of the record has the
//     value as it came, wherever in the record it stands. Both have the same: an event is the one that is decoded
//     without the rules from what they leave of the record (FuzzPrivacy).
//   - E7 With a list of suppressed readers (Decoder.Suppress), a record whose user_id or session_id is on it is
//     Suppressed, whatever else is wrong with it. One that is refused and in which not both ids could be read, or one
//     was in doubt, is Withheld: its letter shows nothing (FuzzSuppress). Without a list nothing is looked at.
//   - E8 Rules of FormsFirst, and the encoding of level.First, are v0.1.0 byte for byte.
//
// # What is refused, and which reason wins
//
// testdata/decode holds every case as a script. A record may have several faults. The reason is the first of this
// list; within one reason, malformed is judged by position in the record and the others by the field's place in
// docs/schema.md:
//
//	too_large           longer than MaxRecord; its content is not examined. Last of all: what Privacy makes of the
//	                    record is longer
//	malformed           empty; not JSON; not an object; nested deeper than MaxDepth; data behind the record; invalid
//	                    UTF-8; a control character, or an escaped half of a surrogate pair, in any text (no UTF-8 text
//	                    can hold it); a field of the schema that occurs twice; from FormsReal on, a name of more than
//	                    MaxName bytes
//	wrong_type          a field with a value that its type does not allow: no UUID, a session_id that is too long, a
//	                    user_id that is negative (-0 too), has a fraction or an exponent or exceeds 2^63-1, a
//	                    timestamp with a fraction or an exponent, no text or no object where the schema wants one
//	missing_field       event_id, session_id, user_id, event_type or timestamp missing, null or ""
//	unknown_event_type  a text that names no type
//	bad_timestamp       before the year 2000, or more than an hour after the record's Kafka timestamp
//
// null and "" mean that there is no value, in every field of the schema, whatever its type. Names of fields are
// compared exactly, after their escapes are resolved. A field that the schema does not name goes to Extra, with name
// and value as they were sent, in order; there it may occur twice.
//
// # In which order
//
//	JSON ─► suppressed readers ─► Exclude ─► Consent ─► faults ─► Privacy ─► measures ─► NormalizeJSON ─► batch
//
// What decides about the record sees its values as they came; what is stored, or computed from it, sees what the rules
// have left. So a metric that is dropped is 0 in its sum. SetKey, which compares Kafka's key with the ids, sees them as
// they came, and tells nothing of them but whether they are the same.
//
// # The decoder
//
// One pass, no tree and no copy: a tokenizer walks the record, guesses each field's name from the one that followed the
// same field in the record before (producers write their fields in one order) and compares once; a wrong guess costs
// a map lookup. Texts are scanned eight bytes at a time. Records of the publisher's sample, 985 bytes, on a busy
// 2-core machine (BenchmarkDecode):
//
//	this decoder                       1.3 µs per event, no allocation
//	the same, every name looked up     1.9 µs
//	encoding/json into a struct        15.8 µs, 25 allocations, and not strict
//
// Rejected: faster libraries accept what E1 forbids (invalid UTF-8, control characters), and so would need a second
// pass; json/v2 is strict and five times slower.
//
// The names within engagement_metrics and metadata are guessed in the same way. Each known name has a number, so that
// bits prove that no name stands twice. Only an object with a name that cannot be numbered, a name that stands twice or
// a number to be quoted goes through NormalizeJSON.
//
// # The batch encoding
//
// A Raft entry is written to three disks and sent over two wires, so the size of an event costs more than the time to
// encode it.
//
//	┌─────────┬──────────────────┬────────────────────┬─────────────────────────────────────────────────┐
//	│ version │ uvarint: length  │ columns, S2 block  │ event ids, session ids, SHA-256s: incompressible│
//	│  1 byte │ of the S2 block  │                    │ 16 B per item  16 B per UUID  32 B per reject   │
//	└─────────┴──────────────────┴────────────────────┴─────────────────────────────────────────────────┘
//
//	columns = ranges: count, nulls; for each: partition gap, from, length, leader epoch+1, items, rejects
//	          items:  offset gaps · Kafka timestamp differences · timestamps less Kafka's seconds · types (4 bits)
//	                  · sessions: count, one number per item, which are UUIDs, the texts of the others
//	                  · user ids · 14 texts · measures and scroll depths · engagement metrics
//	          rejects: for each: offset gap, Kafka timestamp difference, reason, length; details
//
//	text column        = dictionary · layout · numbers, bit-packed to the dictionary's width
//	layout             = one number per item, or, if all items of each session agree, one per session
//	page URL           = a bit: ends with the article id, which is then left off · text column
//	engagement metrics = dictionary of shapes · one shape per item · integers · dictionary of tokens · tokens
//	                     (shape.go: the text without its values; time_on_page and similar values point to Measure)
//
// Version 2 adds, behind the ranges: number of the rules, counts, what was seen of each range; to the measures: two
// more bits and the read progress; at the end, each with a byte that says whether it follows: omitted engagement
// metrics, names of unknown types, keys of users (their ids follow from them), classes of Kafka keys with hashes of the
// others. Version 3 adds, behind the numbers of excluded records, that of the records without consent, the number of
// the list of suppressed readers and the offsets of their records; at the end, which rejects are withheld.
//
// Integers are varints, differences zigzag varints, bit-packed numbers lowest bit first. S2 finds the repetition in
// dictionaries and differences that the packing leaves. There is no checksum, because the log has one.
//
// A batch of 300 events (256 KiB of JSON) of 2,000 open sessions takes 61 bytes per event, and a batch of 3,000 events
// takes 42; of these, 32 and 20 bytes are random identifiers.
//
// Rejected: zstd (6 bytes less per event for a third more time), one dictionary for all columns (wider numbers), rows
// (twice the time), deriving Measure again from the text on each replica (E4).
package event
