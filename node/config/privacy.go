package config

import "time"

// DeadLetters say what a dead letter shows of the record that it stands for. They are replicated, like all rules, and
// need level 3.
type DeadLetters struct {
	// Values is keep (the record as it came), masked (its names, and for each value its type and length) or none.
	Values string `yaml:"values" default:"keep"`
	// Details is types (a detail says what a value is) or values (it shows how the value begins).
	Details string `yaml:"details" default:"types"`
}

// dlqRetentionMost is the longest retention of dead letters: ten years, so that its milliseconds are no surprise to
// anybody.
const dlqRetentionMost = 3652 * 24 * time.Hour

func (c *Config) checkDeadLetters(k *checker) {
	k.between("kafka.dlq_retention", c.Kafka.DLQRetention, time.Hour, dlqRetentionMost)
	k.oneOf("rules.dead_letters.values", c.Rules.DeadLetters.Values, "keep", "masked", "none")
	k.oneOf("rules.dead_letters.details", c.Rules.DeadLetters.Details, "types", "values")
}
