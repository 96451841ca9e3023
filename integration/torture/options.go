package main

import "time"

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
}
