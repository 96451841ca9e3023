package main

import "time"

// result is what a round has brought.
type result struct {
	detail   string
	kills    int
	calm     *recovery     // without any fault: what the others are to be compared with
	recovery *recovery     // of a leader's SIGKILL without any other fault
	all      *recovery     // of all three, killed and started again
	follow   time.Duration // of a node that came back
	rejoin   time.Duration // of a node that came back with an empty folder
}

// recovery is how long it took until what was produced after a kill was visible.
type recovery struct {
	events, clickhouse, sessions time.Duration // sessions: a row needs the session's end and its grace, too
}

func (r recovery) worst() time.Duration { return max(r.events, r.clickhouse) }
