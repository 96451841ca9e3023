package event

// Versions of the encoding of batches, its first byte; level.Batch says which one a cluster writes.
const (
	// batchFirst carries what v0.1.0 knows of a batch.
	batchFirst = 1
	// batchReal carries all of a Batch but what AppendBatch leaves out.
	batchReal = 2
	// batchGuarded also carries the number of records without consent, the number of the list of suppressed readers
	// and the records left out by it, and which letters show nothing.
	batchGuarded = 3
)

// textColumns are the texts of an event that a batch carries in columns of their own, in the order of the encoding.
var textColumns = [...]field{
	fieldBrand, fieldCategory, fieldArticleID, fieldArticleTitle, fieldPageURL, fieldReferrer, fieldDeviceType,
	fieldDeviceOS, fieldBrowser, fieldCountry, fieldCity, fieldTimezone, fieldSubscriptionTier, fieldUserSegment,
}

// batchTexts[v] is the number of texts that version v carries: that many from the start of textColumns. A new text goes
// to the end of textColumns and into a new version; in a batch of an older version it is empty.
var batchTexts = [...]int{batchFirst: 14, batchReal: 14, batchGuarded: 14}

const (
	typeWidth = 4 // bits of a Type
	// How a column of users or texts is laid out.
	perItem    = 0 // one value per item
	perSession = 1 // one value per session, on which all its items agree
	// Bits of the column that says which items have a Measure or a Scroll other than 0.
	hasMeasure = 1
	hasScroll  = 2
	// From batchReal on: has a Progress other than 0, is Complete.
	hasProgress = 4
	isComplete  = 8
	// measureWidth are the bits of an item in that column, by version.
	measureWidthFirst = 2
	measureWidthReal  = 4
	// How a column is laid out that few batches have.
	noColumn  = 0 // no item has a value
	hasColumn = 1
	// Flags of what was seen of a range, from batchReal on.
	seenAtHead = 1
	seenTime   = 2
	seenLast   = 4
)
