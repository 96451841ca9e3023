package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"deckle/sim"
)

// rotatePassword gives the account of one service another password while records flow, then gives it to the nodes in
// their files. In between a node is killed, so that it starts with a password that is refused, and every connection to
// the service is cut, so that each has to be made anew.
func rotatePassword(service string) func(context.Context, *torture, *result) error {
	return func(ctx context.Context, t *torture, r *result) error {
		password := newSecret(t)
		var err error
		switch service {
		case "kafka":
			err = t.kafka.SetPassword(ctx, password)
		case "minio":
			err = t.minio.Restart(ctx, password) // its account is the server's own
		case "clickhouse":
			err = t.click.SetPassword(password)
		}
		if err != nil {
			return err
		}
		victim := t.pick(nodes)
		r.detail = fmt.Sprintf("node-%d killed", victim+1)
		if _, err := t.kill(r, victim); err != nil {
			return err
		}
		for _, l := range t.linksOf(func(l *link) bool { return l.to == service }) {
			l.Cut()
		}
		if err := sim.Pause(ctx, t.upTo(time.Second)); err != nil {
			return err
		}
		t.heal()
		if err := t.Nodes[victim].Start(); err != nil {
			return err
		}
		if err := sim.Pause(ctx, t.upTo(3*time.Second)); err != nil {
			return err
		}
		return t.GivePasswords()
	}
}

// newSecret is a password that follows from the seed.
func newSecret(t *torture) string { return fmt.Sprintf("secret-%016x", t.rng.Uint64()) }

// rotateToken gives every node a file with another token, and then one without the former, while records flow and a
// node is killed. The former must be worth nothing after it.
func rotateToken(ctx context.Context, t *torture, r *result) error {
	former := t.Nodes[0].Token()
	if err := t.NewToken(ctx); err != nil {
		return err
	}
	victim := t.pick(nodes)
	r.detail = fmt.Sprintf("node-%d killed", victim+1)
	if _, err := t.kill(r, victim); err != nil {
		return err
	}
	if err := errors.Join(t.Revoke(ctx, former), t.Nodes[victim].Start()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyFor)
	defer cancel()
	for _, n := range t.Nodes {
		for {
			now, err := n.With(ctx, n.Token(), "/api/v1/status")
			was, err2 := n.With(ctx, former, "/api/v1/status")
			if now == http.StatusOK && was == http.StatusUnauthorized {
				break
			}
			if sim.Pause(ctx, 500*time.Millisecond) != nil {
				return errors.Join(err, err2, fmt.Errorf("%s answers the new token with %d, the former one with %d",
					n.Name, now, was))
			}
		}
	}
	return nil
}
