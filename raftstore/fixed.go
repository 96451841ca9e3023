package raftstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Setting is a value that is fixed when a cluster is created, and is the same on all of its nodes.
type Setting struct {
	Key   string // of the configuration, such as kafka.topic
	Value string // as a person reads it
}

// Differ names the settings that two have and that are not the same, with who has what; "" if there is none. What only
// one of them has is not compared: the other may be of another version.
func Differ(here, there []Setting, whose string) string {
	var all []string
	for _, s := range here {
		i := slices.IndexFunc(there, func(o Setting) bool { return o.Key == s.Key })
		if i >= 0 && there[i].Value != s.Value {
			all = append(all, fmt.Sprintf("%s is %.200s here, and %.200s %s", s.Key, s.Value, there[i].Value, whose))
		}
	}
	return strings.Join(all, "; ")
}

// fits returns why the groups must not start: a value is configured here that was fixed as another one. What the state
// here says of it counts. A node without a state asks those that belong to its cluster; where none of them answers, or
// all are of versions that do not tell, it is let through, and finds out when it leads.
//
// A member is not compared with the others: one of them that is configured wrongly must not keep two from starting.
func (f *forming) fits(ctx context.Context, id identity) error {
	if f.started.Load() || len(f.opts.Fixed) == 0 {
		return nil
	}
	if f.opts.Founded != nil {
		if founded := f.opts.Founded(); founded != nil {
			return f.opts.differs(founded, "in the state in "+f.opts.Dir)
		}
	}
	for _, p := range f.opts.Nodes {
		if p.Name == f.opts.Name {
			continue
		}
		resp, err := f.peers.call(ctx, p, &request{Op: opHello})
		if err != nil || resp.Cluster != id.Cluster {
			continue
		}
		if err := f.opts.differs(resp.Fixed, "on node "+p.Name); err != nil {
			return err
		}
	}
	return nil
}

// differs returns an error that wraps ErrConfig if Fixed is not what somebody else has.
func (o *Options) differs(there []Setting, whose string) error {
	if text := Differ(o.Fixed, there, whose); text != "" {
		return fmt.Errorf("%w: %s: these are fixed when a cluster is created. Set them back, or start a new cluster "+
			"in an empty folder", ErrConfig, text)
	}
	return nil
}
