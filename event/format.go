package event

// batchVersion is the version of the encoding of batches that AppendBatch writes: its first byte. DecodeBatch reads every
// version of batchTexts.
const batchVersion = 1

// textColumns are the texts of an event that a batch carries in columns of their own, in the order of the encoding.
var textColumns = [...]field{
	fieldBrand, fieldCategory, fieldArticleID, fieldArticleTitle, fieldPageURL, fieldReferrer, fieldDeviceType,
	fieldDeviceOS, fieldBrowser, fieldCountry, fieldCity, fieldTimezone, fieldSubscriptionTier, fieldUserSegment,
}

// batchTexts is how many of textColumns a version carries: the first so many. A new text goes to the end of
// textColumns and into a new version; of a batch of an older one it is empty.
var batchTexts = [...]int{1: 14}

const (
	typeWidth = 4 // bits of a Type
	// How a column of users or texts is laid out.
	perItem    = 0 // a value for each item
	perSession = 1 // a value for each session, all items of a session agree
	// Bits of the column that says which items have a Measure or a Scroll other than 0.
	hasMeasure = 1
	hasScroll  = 2
)
