package status

import "time"

// Member is one node of the cluster, as another one (or it itself) sees it.
type Member struct {
	Node    string
	Answers bool // it has answered the last question
	// UpToDate says that in each shard it is a voting member and has what was committed at the last look but one.
	UpToDate bool
	// Since is when it began to answer, or ceased to, by the clock of the node that asks. One lost answer ends nothing.
	// Zero before the first question.
	Since time.Time
	// Clock is its wall clock minus that of the node that asks, exact to half the time that the question took. It is
	// for people, and nothing is decided by it. Nil for the node itself, and before it has told its time.
	Clock *time.Duration
	// Figures are what it told last, At when; nil if it never did, as a node of an earlier version.
	Figures *Figures
	At      time.Time
}

// Figures are what a node tells of itself to the other ones.
type Figures struct {
	Version string // of its binary
	// Level is the lowest level of its shards, 0 while they do not run; Knows is the highest that its binary reads and
	// its configuration lets it rise to.
	Level, Knows uint32
	// Has is the level of its binary, and Highest the highest level of its shards; 0 of a node of an earlier version.
	// Manual says that its configuration wants an operator to say when the level rises.
	Has, Highest uint32    `json:",omitempty"`
	Manual       bool      `json:",omitempty"`
	Started      time.Time // by its own clock
	// Leads and Follows are the shards of which it is the leader, and the other ones that it has; ascending.
	Leads, Follows []uint32
	// Lag is the sum over the shards that it leads, and the greatest of their ages. What is nil is not known.
	LagRecords *int64
	LagSeconds *float64
	// Disk are the bytes in the data folder, and its budget; DiskFree are those free on its file system, -1 if unknown.
	Disk     Fill
	DiskFree int64
	// Memory are the bytes that the process holds; Sessions those of the sessions in memory, and their budget.
	Memory   int64
	Sessions Fill
	Files    Fill // open files of the process; zero where the system does not tell
	// Drained says that an operator wants it to lead no shard that another node can lead.
	Drained bool `json:",omitempty"`
	// Certificates are those in use, of every file that the configuration names.
	Certificates []Certificate `json:",omitempty"`
}

// Fill is how much of something is used, and its limit; a limit of 0 means that there is none.
type Fill struct{ Used, Limit int64 }

// Certificate is when the certificate of a file expires, the first one of a bundle.
type Certificate struct {
	Key      string // of the configuration
	NotAfter time.Time
}
