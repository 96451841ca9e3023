package event

// batchVersion is the version of the encoding of batches that AppendBatch writes: its first byte. DecodeBatch reads
// every version of batchTexts.
const batchVersion = 1

// textColumns are the texts of an event that a batch carries in columns of their own, in the order of the encoding.
var textColumns = [...]field{
	fieldBrand, fieldCategory, fieldArticleID, fieldArticleTitle, fieldPageURL, fieldReferrer, fieldDeviceType,
	fieldDeviceOS, fieldBrowser, fieldCountry, fieldCity, fieldTimezone, fieldSubscriptionTier, fieldUserSegment,
}

// batchTexts[v] is the number of texts that version v carries: that many from the start of textColumns. A new text goes
// to the end of textColumns and into a new version; in a batch of an older version it is empty.
var batchTexts = [...]int{1: 14}

const (
	typeWidth = 4 // bits of a Type
	// How a column of users or texts is laid out.
	perItem    = 0 // one value per item
	perSession = 1 // one value per session, on which all its items agree
	// Bits of the column that says which items have a Measure or a Scroll other than 0.
	hasMeasure = 1
	hasScroll  = 2
)
