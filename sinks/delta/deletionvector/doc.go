// Package deletionvector reads and makes the deletion vectors of Delta tables: which rows of a data file are deleted
// although they stand in it (protocol, "Deletion Vectors"). Those that are made stand in objects of their own.
//
// # Where the bytes are
//
//	storageType  pathOrInlineDv                      the bytes
//	i            Z85 of them, padded                 in the log
//	u            prefix, Z85 of a UUID (20 letters)  in <prefix>/deletion_vector_<uuid>.bin of the table's folder
//	p            a URL                               anywhere: refused here (ErrElsewhere)
//
//	deletion_vector_<uuid>.bin   version u8 = 1, then for each vector, at its offset:
//	                             size i32 BE, the bytes, CRC-32 (IEEE) of them u32 BE
//	the bytes                    magic u32 LE = 1681511377, number of bitmaps u64 LE, then for each, ascending:
//	                             the upper half of its rows u32 LE, a Roaring bitmap of 32 bits (portable format)
//
// # Promise
//
// Read gives exactly the rows that the vector names, or an error. A byte that is not as it must be, a number of rows
// that differs from the descriptor's, and bytes that are left over, are a *DamageError, never a smaller set of rows: a
// row that is not hidden comes back. Memory is bounded by MaxSize.
//
// The bitmaps themselves are read by RoaringBitmap/roaring, which is given a copy of the bytes and judged by its own
// Validate and by counting.
package deletionvector
