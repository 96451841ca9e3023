package main

import "time"

// result is what a round has measured.
type result struct {
	detail   string
	kills    int
	calm     *recovery     // without any fault, as a comparison for the others
	recovery *recovery     // of a leader's SIGKILL without any other fault
	all      *recovery     // of all three nodes, killed and started again
	follow   time.Duration // until a node that came back had caught up
	rejoin   time.Duration // until a node that came back with an empty folder was a member again
}

// recovery is the time from a kill until what was produced after it was visible.
type recovery struct {
	events, clickhouse, sessions time.Duration // sessions: a row needs the end of the session and its grace, too
}

func (r recovery) worst() time.Duration { return max(r.events, r.clickhouse) }
