package status

import "time"

// Bounds of what is asked of dead letters at once.
const (
	// MaxLetters is how many letters a page of them has at most; MaxLettersBytes bounds what is read of their topic for
	// one.
	MaxLetters      = 10_000
	MaxLettersBytes = 64 << 20
	// MaxReview is how many letters a verb takes at once: they are one transaction, of MaxReviewBytes at most.
	MaxReview      = 500
	MaxReviewBytes = 8 << 20
)

// LetterState is where the review of a dead letter stands.
type LetterState string

// The states.
const (
	LetterOpen      LetterState = "open"      // nobody has decided about it
	LetterReplayed  LetterState = "replayed"  // its record was written into the source topic again, as it was or edited
	LetterDiscarded LetterState = "discarded" // it was purged
)

// LetterReview is what was decided about a letter last.
type LetterReview struct {
	State LetterState `json:"state"`
	By    string      `json:"by"` // who asked
	At    time.Time   `json:"at"`
	// Request names the request, here and in the audit log.
	Request string `json:"request"`
	// Times is how often the letter was replayed.
	Times int `json:"times,omitempty"`
	// Edited says that another value than the letter's was replayed.
	Edited bool `json:"edited,omitempty"`
}

// Letter is a dead letter, as its topic has it.
type Letter struct {
	Key   string `json:"key"`
	Place string `json:"place"` // PARTITION/OFFSET in the topic of letters
	// Reason and Detail are why the record, or the row, was refused.
	Reason string `json:"reason"`
	Detail string `json:"detail"`
	// Of a record: the partition and the offset in the source topic; null for a row.
	Partition *int32 `json:"source_partition"`
	Offset    *int64 `json:"source_offset"`
	// Sink is the sink that refused a row, RowKey the row; "" for a record.
	Sink       string     `json:"sink,omitempty"`
	RowKey     string     `json:"row_key,omitempty"`
	SourceTime *time.Time `json:"source_timestamp"` // null where it is not known
	RejectedAt *time.Time `json:"rejected_at"`      // null where it is not known
	// Shown says what the letter has of the value: whole, truncated, masked, rules, none or lost.
	Shown string `json:"shown"`
	// Length and SHA256 are those of the whole value; null and "" where the letter does not say.
	Length *int64        `json:"length"`
	SHA256 string        `json:"sha256,omitempty"`
	State  LetterState   `json:"state"`
	Review *LetterReview `json:"review"` // null while it is open
	// Value is what the letter shows, as far as the present rules show it, too; only of one letter that is asked for.
	// What is no UTF-8 is in Value64, in base64. Withheld says why nothing is shown.
	Value    *string `json:"value,omitempty"`
	Value64  []byte  `json:"value_base64,omitempty"`
	Withheld string  `json:"withheld,omitempty"`
}

// LetterQuery says which letters to list: those for which all of it is true that is given.
type LetterQuery struct {
	From, Until time.Time // of the time of rejection: from, and before
	Partition   *int32    // of the source
	Reason      string
	State       LetterState
	// Place is where to go on: the Next of a page before, "" to begin.
	Place string
	Limit int // at most MaxLetters; 0 for that many
}

// LetterPage is a part of the letters, in the order of their topic. A letter that was written twice is in two pages at
// most.
type LetterPage struct {
	Letters []Letter `json:"letters"`
	Read    int      `json:"read"` // records of the topic that this page was chosen from
	Next    string   `json:"next"` // where the next page begins; "" if this is the last one
}

// LetterOp is what is done to letters.
type LetterOp string

// The operations.
const (
	LetterReplay LetterOp = "replay" // write the records into the source topic again
	LetterEdit   LetterOp = "edit"   // write another value in the place of a letter's into the source topic
	LetterPurge  LetterOp = "purge"  // delete the letters
)

// LetterRef names a letter. Place may be "" for one that is looked up; it is where a page has shown the letter.
type LetterRef struct {
	Key   string `json:"key"`
	Place string `json:"place"`
}

// LetterRequest is what an operator asks to be done to letters. Any node can carry it out.
type LetterRequest struct {
	Op      LetterOp
	Letters []LetterRef // at most MaxReview; one for an edit
	Value   []byte      // of an edit
	DryRun  bool
	Again   bool // letters that were replayed before, too
	Asker   Asker
}

// What comes of a letter in a LetterOutcome.
const (
	LetterDone    = "done"    // or, in a dry run, it would be
	LetterAlready = "already" // somebody has decided about it before
	LetterRefused = "refused" // it cannot be done; Why says why
	LetterLeft    = "left"    // it did not fit into the transaction: ask for it again
)

// LetterOutcome is what has come of a LetterRequest.
type LetterOutcome struct {
	DryRun  bool           `json:"dry_run"`
	Done    int            `json:"done"`
	Already int            `json:"already"`
	Refused int            `json:"refused"`
	Left    int            `json:"left"`
	Letters []LetterResult `json:"letters"` // in the order of the request
}

// LetterResult is what has come of one letter.
type LetterResult struct {
	Key     string `json:"key"`
	Outcome string `json:"outcome"`
	Why     string `json:"why,omitempty"`
}
