// Package cipherfs seals the files of a node's data folder: it is a layer under Pebble's vfs.FS (design §12).
//
// # Promise
//
// Who has the disk and not the key learns the names, sizes and times of the files, and nothing of what is in them. No
// byte of their making is ever taken for what was written, unless plain files are accepted (Options.Plain). A key that
// is wrong or missing is noticed before anything is opened, changes no byte, and is never taken for damage.
//
// Who can write to the disk can still delete files, cut them at the end of a chunk, give one file another's name, and
// put back older copies: a file is bound to its key, not to its name, because hard links and renames have to work. The
// numbers and checksums of the log and of Pebble notice some of it. Nor does it protect against who reads the process's
// memory.
//
// # Invariants
//
//  1. No nonce comes twice under a key. A salt of 32 random bytes gives each file a key of its own, and a chunk's nonce
//     is its offset in the plain file. Chunks have at least one byte and are only appended. A file is written by the
//     handle that created it, from its beginning to its end; after a failed write or sync that handle writes no more.
//  2. A synced byte is never written again, and shares no chunk with one that is written later: Sync ends a chunk. So a
//     torn append takes no synced byte with it, which package wal builds on (its "torn or damaged").
//  3. Each byte that a reader returns is the one that was written there, or it is 0 because its chunk, or the header,
//     is not authentic. Where a chunk cannot even be found, those behind it are, at their own offsets.
//  4. What is authentic once stays so. What is not is looked at again with each read, since it may be under way.
//  5. Everything that is needed to read a file, but the key, is in the file: hard links and renames need nothing.
//  6. While any file of a folder is sealed, its identity is: it is sealed first and unsealed last. A binary that knows
//     no encryption reads the identity first, and refuses a folder whose identity is no JSON.
//
// # Format
//
// Integers are little-endian.
//
//	header  ┌────────────┬───────────┬─────────────┬───────────┬─────────┬─────────┬───────┐
//	96 B    │ "DKLCRYPT" │ version 1 │ chunk 16384 │ id of key │ salt    │ zero    │ CRC32C│
//	        └─────8──────┴─────4─────┴──────4──────┴────16─────┴───32────┴───28────┴───4───┘
//	chunk   ┌────────┬────────┬────────┬─────────────────┬─────┬───────┐
//	        │ "CHNK" │ length │ offset │ sealed bytes    │ tag │ zeros │  to a multiple of 8
//	        └───4────┴───4────┴───8────┴─────length──────┴─16──┴─0..7──┘
//
//	key of a file    HKDF-SHA256(key, salt, "deckle file 1"); the cipher is AES-256-GCM
//	nonce            four zero bytes, offset as 8 bytes big-endian
//	additional data  the first 64 bytes of the header, the first 16 of the chunk
//	id of a key      the first 16 bytes of HMAC-SHA256(key, "deckle key id 1")
//
// A file to which nothing was written is empty; it has no header. The header goes down with the first chunk.
//
// The file encryption, plain, is one line of JSON and one with its CRC32C: Format 1 and Keys. Each of those has
// ID, Salt and Check: AES-256-GCM(HKDF-SHA256(key, Salt, "deckle key check 1"), nonce 0, text "deckle", additional data
// ID). A key file is one line, "deckle-key-1:" and 43 characters of base64url.
//
// # Reading
//
// A table has full chunks but for the last, so a place in it is found by arithmetic: one look at where the last head
// must be proves it (index.leap). Any other file (the log, a manifest) is indexed by one pass over the heads when it is
// first read, 16 bytes of memory per chunk. Whoever reads past what is known looks further, because the log reads
// segments that grow.
//
//	              head fits        ┌── yes: known, whether or not it opens ◄──┐
//	end of what ──at its place? ───┤                                          │
//	is known                       └── no: does the chunk before open?        │
//	                                     no: its length may be wrong ─┐       │
//	                                     yes ─────────────────────────┴─► next mark whose chunk opens; a gap before it
//	                                                                       none: the end, looked at again next time
//
// # What does not authenticate
//
// It reads as zeros, is counted (FS.Unauthentic) and logged once per handle. It is no error, because the owners of the
// files know better: the log tells torn from damaged by what it can prove, and must see what lies behind the place;
// Pebble's blocks and the node's JSON files have checksums, which zeros do not fit: it is damage, as a flipped bit in a
// plain file is. An error would be taken for a bad disk, and be met again at every start. A file whose header is
// not whole reads as empty: a crash may have left it so. The length of a chunk that does not open is believed as far as
// it fits, so a file may read as some zeros longer than it was.
//
// # Files
//
//	format    every magic, version, label and name
//	errors    what is refused, and how it is told
//	key       keys and their files
//	seal      a chunk sealed and opened; the file that is written
//	index     where the chunks of a file are
//	read      the file that is read; the cache of opened chunks
//	fs        FS, the layer
//	census    what the first bytes of a folder's files say
//	prove     the file encryption; Prove, Folder
//	rewrite   Rewrite: another key for every file
//	report    Look: how many files each key has
//
// # Limits
//
// Memory: 16 KiB per file that is written and up to 1 MiB behind a long Write, 16 bytes per chunk that is not found by
// arithmetic, 4 MiB of opened chunks for all files together.
//
// # Rejected
//
//   - One cached chunk per handle: Pebble keeps thousands of tables open.
//   - No descriptor (Fd) for files that are written: Pebble would then sync each table every 512 KiB, which costs
//     fsyncs and leaves short chunks in the middle.
//   - Blocks of a fixed length, as disks have them: the last one would be written again with each append, under the
//     same nonce.
//   - Chunks of 32 KiB: a tenth less CPU per byte was measured, for twice the memory and twice the loss by a bit.
//   - An error for what does not authenticate: see above.
//   - A note in the folder of whether plain files are accepted: whoever can write to the disk could change it, or put
//     back the one from before all was sealed.
package cipherfs
