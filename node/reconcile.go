package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"deckle/event"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/letters"
	"deckle/node/reconcile"
	"deckle/node/shard"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta"
	"deckle/state"
)

// ReconcileOptions say what Reconcile compares; see reconcile.Options.
type ReconcileOptions struct {
	From, To time.Time
	Settle   time.Duration
	Limit    int
	Progress func(text string)
	// Suppressed, if set, says for each of these readers, up to 1,000, whether they are on the list.
	Suppressed func(ctx context.Context, readers []Reader) ([]bool, error)
}

// Reader are the ids of a record as it came, "" for none.
type Reader struct{ User, Session string }

// Reconcile compares a stretch of the topic that the configuration names with its tables. It writes nothing.
func Reconcile(ctx context.Context, cfg *config.Config, deps Deps, o ReconcileOptions) (_ *reconcile.Report,
	err error) {
	deps.complete()
	compared, done, err := openReconcile(ctx, cfg, &deps, &o)
	defer func() { err = errors.Join(err, done()) }()
	if err != nil {
		return nil, err
	}
	return reconcile.Compare(ctx, compared)
}

// openReconcile opens what is compared. done closes it; it is never nil.
func openReconcile(ctx context.Context, cfg *config.Config, deps *Deps, o *ReconcileOptions) (
	compared reconcile.Options, done func() error, err error) {
	var closers []func() error
	done = func() (err error) {
		for _, c := range closers {
			err = errors.Join(err, c())
		}
		return err
	}
	files, keys, k, err := openTopic(cfg, deps)
	if err != nil {
		return compared, done, err
	}
	closers = append(closers, func() error { k.Close(); return nil })
	wire := &sinkWiring{cfg: cfg, deps: deps, files: files}
	compared = reconcile.Options{From: o.From, To: o.To, Settle: o.Settle, Limit: o.Limit, Progress: o.Progress,
		Log: k, Topic: cfg.Kafka.Topic, LettersTopic: cfg.Kafka.DLQ,
		ReviewTopic: cfg.Kafka.DLQ + letters.ReviewSuffix, Now: deps.Now,
		Pause: func(ctx context.Context, d time.Duration) error {
			wait(ctx, d)
			return ctx.Err()
		},
		Decoder: &event.Decoder{Rules: shard.EventRules(&cfg.Rules, keys.First()), Key: keys.Key(keys.First())}}
	if d := cfg.Delta; d != nil {
		st, err := wire.deltaStore(d)
		if err != nil {
			return compared, done, fmt.Errorf("node: delta: %w", err)
		}
		if d.Events == nil || *d.Events {
			if compared.Events, err = delta.OpenTableWithBounds(ctx, st, "events"); err != nil {
				return compared, done, err
			}
		}
		if compared.Sessions, err = delta.OpenTable(ctx, st, "sessions"); err != nil {
			return compared, done, err
		}
	}
	if cfg.ClickHouse != nil {
		at, _, err := wire.clickHouseOptions()
		if err != nil {
			return compared, done, err
		}
		reader, err := clickhouse.OpenReader(ctx, at)
		if err != nil {
			return compared, done, err
		}
		closers = append(closers, reader.Close)
		compared.ClickHouse = reader
	}
	if ask := o.Suppressed; ask != nil {
		again := kafka.NewRefetch(k, keys.Key)
		compared.Suppressed = func(ctx context.Context, at []reconcile.Position) (map[reconcile.Position]bool, error) {
			return listed(ctx, again, at, ask)
		}
	}
	return compared, done, nil
}

// listed reads records again and says which of them are of readers on the list.
func listed(ctx context.Context, again *kafka.Refetch, at []reconcile.Position,
	ask func(context.Context, []Reader) ([]bool, error)) (map[reconcile.Position]bool, error) {
	positions := make([]state.Position, len(at))
	for i, p := range at {
		positions[i] = state.Position{Partition: p.Partition, Offset: p.Offset}
	}
	rules := event.DefaultRules() // ids as they came: no privacy, and the most forms
	dec := event.Decoder{Rules: &rules}
	var ev event.Event
	readers, asked := make([]Reader, 0, len(at)), make([]reconcile.Position, 0, len(at))
	err := again.Originals(ctx, positions, func(i int, value []byte, ok bool) error {
		if !ok {
			return nil
		}
		defer dec.Reset()
		if reason, _ := dec.Decode(value, 0, &ev); reason != event.ReasonNone {
			return nil
		}
		asked, readers = append(asked, at[i]), append(readers, readerOf(&ev))
		return nil
	})
	if err != nil {
		return nil, err
	}
	on, err := ask(ctx, readers)
	if err != nil {
		return nil, err
	}
	theirs := map[reconcile.Position]bool{}
	for i, yes := range on {
		theirs[asked[i]] = yes
	}
	return theirs, nil
}

// readerOf are the ids of a record, as the list of suppressed readers knows them.
func readerOf(ev *event.Event) Reader {
	r := Reader{User: strings.Clone(ev.UserKey), Session: strings.Clone(ev.SessionID)}
	if r.User == "" && ev.UserID > 0 {
		r.User = strconv.FormatUint(ev.UserID, 10)
	}
	return r
}
