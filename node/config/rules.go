package config

import "time"

// Rules decide verdicts and stored values, and may be changed while the cluster lives. They are replicated: a leader
// hands those of its file on only if Revision is greater than that of the present ones.
type Rules struct {
	Revision int      `yaml:"revision"` // raise it in the files of all nodes with every change
	Clock    Clock    `yaml:"clock"`    // how long a shard waits for a partition
	Session  MaxBytes `yaml:"session"`  // how large a session may become
	// EventTypes says what becomes of events of types that docs/schema.md does not name.
	EventTypes EventTypes `yaml:"event_types"`
	// DeadLetters say what a dead letter shows.
	DeadLetters DeadLetters `yaml:"dead_letters"`
	// Exclude are the records that are left out. The first rule that a record fits counts it.
	Exclude []Exclude `yaml:"exclude"`
	// Privacy says what becomes of the values of fields.
	Privacy []PrivacyRule `yaml:"privacy"`
	// Consent says which records are left out because their reader has not agreed; without it all are counted.
	Consent *Consent `yaml:"consent"`
}

// EventTypes says what becomes of events by their type.
type EventTypes struct {
	// Unknown is count, reject (a dead letter, unknown_event_type) or skip (left out, and counted).
	Unknown string `yaml:"unknown" default:"count" enum:"count,reject,skip"`
}

// Exclude describes records that are left out, by the value of one field. Package event checks what its fields say, and
// docs/schema.md has their rules.
type Exclude struct {
	Name     string   `yaml:"name"`     // what the records are counted under
	Field    string   `yaml:"field"`    // a dot leads into an object
	Equal    []string `yaml:"equal"`    // the values themselves
	Suffix   []string `yaml:"suffix"`   // how values end
	Hosts    []string `yaml:"hosts"`    // names of hosts, with those below them
	Networks []string `yaml:"networks"` // of addresses, such as 10.0.0.0/8
}

// MaxBytes bounds a session by bytes.
type MaxBytes struct {
	// MaxBytes is the size of a session's events from which on a further one is a dead letter, session_full.
	MaxBytes int64 `yaml:"max_bytes" default:"8MiB"`
	// MaxMetricsBytes is the greatest engagement_metrics of an event that a session's row has.
	MaxMetricsBytes int64 `yaml:"max_metrics_bytes" default:"4KiB"`
}

// Clock says how long a shard waits for a partition.
type Clock struct {
	// Slack is how far a partition with slow devices stays behind the live ones.
	Slack time.Duration `yaml:"slack" default:"2m"`
	// LeaveOut is how long a partition may deliver nothing before the sessions of the others close without it.
	LeaveOut time.Duration `yaml:"leave_out" default:"2m"`
}

func (c *Config) checkRules(k *checker) {
	r := &c.Rules
	k.atLeast("cluster.max_level", int64(c.Cluster.MaxLevel), 0)
	k.atLeast("rules.revision", int64(r.Revision), 0)
	k.between("rules.clock.slack", r.Clock.Slack, time.Second, time.Hour)
	k.between("rules.clock.leave_out", r.Clock.LeaveOut, 5*time.Second, 24*time.Hour)
	k.inBytes("rules.session.max_bytes", r.Session.MaxBytes, 64<<10, 64<<20)
	k.inBytes("rules.session.max_metrics_bytes", r.Session.MaxMetricsBytes, 256, 1<<20)
}
