// Package rights names the right that an account lacks in Kafka, and what it lacks it on, and which one in S3. A broker
// that refuses a request says "not authorized", and neither which topic nor which right is meant.
package rights

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Right is an operation on a resource, as Kafka's access control lists have them.
type Right struct {
	Operation string // "Read", "Write", "Describe", …
	kind      kind
	name      string
}

type kind uint8

const (
	topic kind = iota
	group
	cluster
	transactionalID
)

// Topic is a right on a topic.
func Topic(operation, name string) Right { return Right{operation, topic, name} }

// Group is a right on a consumer group.
func Group(operation, name string) Right { return Right{operation, group, name} }

// Cluster is a right on the cluster.
func Cluster(operation string) Right { return Right{operation, cluster, ""} }

// TransactionalID is a right on a transactional id.
func TransactionalID(operation, name string) Right { return Right{operation, transactionalID, name} }

// String is for people: Read on topic "x".
func (r Right) String() string {
	switch r.kind {
	case topic:
		return fmt.Sprintf("%s on topic %q", r.Operation, r.name)
	case group:
		return fmt.Sprintf("%s on group %q", r.Operation, r.name)
	case transactionalID:
		return fmt.Sprintf("%s on transactional id %q", r.Operation, r.name)
	}
	return r.Operation + " on the cluster"
}

// command is what gives the right to an account.
func (r Right) command() string {
	on := "--cluster"
	switch r.kind {
	case topic:
		on = "--topic '" + r.name + "'"
	case group:
		on = "--group '" + r.name + "'"
	case transactionalID:
		on = "--transactional-id '" + r.name + "'"
	}
	return fmt.Sprintf("kafka-acls.sh --bootstrap-server BROKER --add --allow-principal User:NAME --operation %s %s",
		r.Operation, on)
}

// MissingError says which right is missing. It wraps the broker's refusal.
type MissingError struct {
	Right Right
	Err   error
}

// Error names the right, its resource and the command that grants it.
func (e *MissingError) Error() string {
	return fmt.Sprintf("the account lacks the right %s (grant it: %s; all that are needed: deploy/rights/kafka.sh): %v",
		e.Right, e.Right.command(), e.Err)
}

func (e *MissingError) Unwrap() error { return e.Err }

// refusals are the errors by which a broker refuses a request for want of a right.
var refusals = map[kind]*kerr.Error{
	topic:   kerr.TopicAuthorizationFailed,
	group:   kerr.GroupAuthorizationFailed,
	cluster: kerr.ClusterAuthorizationFailed,

	transactionalID: kerr.TransactionalIDAuthorizationFailed,
}

// Explain returns err, wrapped in a *MissingError if it is, or wraps, a refusal for want of one of the rights that the
// request needs: of those, the first on a resource of the kind that the refusal names. It is nil for nil.
func Explain(err error, needed ...Right) error {
	var known *MissingError
	if err == nil || errors.As(err, &known) {
		return err
	}
	for _, r := range needed {
		if errors.Is(err, refusals[r.kind]) {
			return &MissingError{r, err}
		}
	}
	return err
}

// Missing says whether err is a refusal for want of a right.
func Missing(err error) bool {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
