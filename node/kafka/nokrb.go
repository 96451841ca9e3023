//go:build nokerberos

package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/sasl"

	"deckle/node/config"
)

// Kerberos is left out of this binary.
type Kerberos struct{}

var errNoKerberos = errors.New("kafka.sasl.mechanism: this binary was built without Kerberos (-tags nokerberos)")

// NewKerberos returns an error: this binary has no Kerberos.
func NewKerberos(*config.Kerberos) (*Kerberos, error) { return nil, errNoKerberos }

// TakeKeytab is not called.
func (*Kerberos) TakeKeytab([]byte) error { return errNoKerberos }

// TakeConfig is not called.
func (*Kerberos) TakeConfig([]byte) error { return errNoKerberos }

func (*Kerberos) mechanism() sasl.Mechanism { return nil }
