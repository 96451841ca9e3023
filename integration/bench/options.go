package main

import (
	"time"

	"deckle/sim"
)

// options are the flags of the command.
type options struct {
	events, warm int64
	sparkWarm    int64 // after the default of them the JVM has compiled all hot code
	runs         int
	seed         uint64
	faults       sim.Faults
	only         string
	interval     time.Duration
	out, dir     string
	keep         bool
	limit        time.Duration
	profile      string

	full                         bool // the parts of full.go instead of the comparison
	rate, soakRate, outageRate   float64
	soakLate                     float64
	warmUp, window, soak, outage time.Duration
	commitWait                   time.Duration
	open                         string
	intervals                    string
	commits                      string
	stateBytes                   int64
}
