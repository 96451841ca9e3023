package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"time"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/shard"
	"deckle/sinks/deadletter"
	"deckle/trust"
)

const (
	// adviseEvery is how often the brokers are asked about the topics' configuration, which hardly ever changes;
	// adviseAgain is the pause where they have not answered.
	adviseEvery, adviseAgain = 10 * time.Minute, 30 * time.Second
	adviseTimeout            = 30 * time.Second
	// letterRemembered is how long a letter that could not be delivered stays a condition.
	letterRemembered = time.Hour
	// checkTimeout is how long Check waits for a first answer.
	checkTimeout = 2 * time.Second
)

// topics watches what the brokers say about the topics, and what the dead letter topic did not take.
type topics struct {
	cfg   *config.Config
	list  *condition.Registry
	kafka *kafka.Client
	now   func() time.Time
	needs func() kafka.Needs

	mu   sync.Mutex
	last time.Time // when a letter could not be delivered
}

// undeliverable takes a letter that the topic took in no form.
func (t *topics) undeliverable(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = t.now()
	t.list.Set(condition.LettersUndelivered, "topic "+t.cfg.Kafka.DLQ, 0, text, "")
}

// forget ends the condition of letters that could not be delivered, when there have been none for a while.
func (t *topics) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.last.IsZero() && t.now().Sub(t.last) >= letterRemembered {
		t.last = time.Time{}
		t.list.Clear(condition.LettersUndelivered, "topic "+t.cfg.Kafka.DLQ)
	}
}

// run asks until ctx ends. What the brokers do not answer is no news: the source says that they do not.
func (t *topics) run(ctx context.Context) {
	found := t.list.Scope()
	for {
		t.forget()
		pause := adviseEvery
		if t.look(ctx, found) != nil {
			pause = adviseAgain
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

// look asks once, and sets what was found.
func (t *topics) look(ctx context.Context, found *condition.Scope) error {
	ctx, cancel := context.WithTimeout(ctx, adviseTimeout)
	defer cancel()
	list, err := t.kafka.Advise(ctx, t.cfg, t.needs(), t.now())
	if err != nil {
		return err
	}
	type key struct {
		id      condition.ID
		subject string
	}
	holds := map[key]bool{}
	for _, c := range list {
		holds[key{c.ID, c.Subject}] = true
		found.Set(c.ID, c.Subject, c.Severity, c.Text, c.Todo)
	}
	found.Retain(func(id condition.ID, subject string) bool { return holds[key{id, subject}] }, "")
	return nil
}

// Check asks the brokers what can be known of the topics before a node is started: the error says why a new cluster
// would be refused, notices say what does not fit or could not be found out, in one line each. It changes nothing.
func Check(ctx context.Context, cfg *config.Config, deps Deps) (notices []string, err error) {
	if err := shard.CheckRules(&cfg.Rules); err != nil {
		return nil, err
	}
	deps.complete()
	switch _, _, err := proveFolder(cfg, &deps, deps.FS); {
	case errors.Is(err, fs.ErrPermission): // somebody else's folder; the keys, too, are for the node to read
		notices = append(notices, fmt.Sprintf("whether the keys are those of the data folder was not looked at: %v",
			err))
	case err != nil:
		return nil, err
	}
	files := trust.NewFiles(deps.ReadFile, deps.Now, slog.New(slog.DiscardHandler))
	k, err := openKafka(cfg, &deps, files, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer k.Close()
	first, cancel := context.WithTimeout(ctx, checkTimeout)
	var unreached *net.OpError
	_, err = k.Describe(first)
	silent := first.Err() != nil
	cancel()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case silent || errors.As(err, &unreached):
		return append(notices, fmt.Sprintf("no broker of kafka.brokers has answered within %s, so topic %s was not "+
			"looked at", checkTimeout, cfg.Kafka.Topic)), nil
	case err != nil:
		return append(notices, fmt.Sprintf("topic %s could not be looked at: %v", cfg.Kafka.Topic, err)), nil
	}
	ctx, cancel = context.WithTimeout(ctx, adviseTimeout)
	defer cancel()
	reach, err := reachOf(cfg, &deps, files)
	if err != nil {
		return nil, err
	}
	if mayFound(ctx, &deps, cfg, reach) {
		notice, err := k.CheckNew(ctx, cfg)
		switch {
		case kafka.Refused(err):
			return nil, err
		case err != nil:
			notices = append(notices, err.Error())
		case notice != "":
			notices = append(notices, notice)
		}
	}
	list, err := k.Advise(ctx, cfg, kafka.Needs{LetterBytes: deadletter.LetterBytes, DiskBytes: cfg.Limits.DiskBytes},
		deps.Now())
	if err != nil {
		return append(notices, err.Error()), nil
	}
	for i := range list {
		c := &list[i]
		todo := c.Todo
		if todo == "" {
			todo = condition.Of(c.ID).Todo
		}
		notices = append(notices, fmt.Sprintf("%s: %s. %s", c.Subject, c.Text, todo))
	}
	return notices, nil
}
