package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// options are the flags of the command.
type options struct {
	kills    int
	seed     uint64
	rate     int
	short    bool
	only     string
	bug      string
	mustFail bool
	dir, out string
	data     string
	keep     bool
	debug    bool
	limit    time.Duration
	vectors  bool // revisions hide rows by deletion vectors
}

// setVectors takes the value of the flag -vectors. Drawn says that the seed decides.
func (o *options) setVectors(value string) error {
	switch value {
	case "on", "off":
		o.vectors = value == "on"
	case "drawn":
		// A generator of its own: the plan of a seed stays what it is.
		o.vectors = rand.New(rand.NewPCG(o.seed, 2)).IntN(2) == 0
	default:
		return fmt.Errorf("-vectors %q: want on, off or drawn", value)
	}
	return nil
}
