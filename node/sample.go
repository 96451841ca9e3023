package node

import (
	"context"
	"log/slog"

	"deckle/event"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/shard"
	"deckle/trust"
)

// Sampled is what the newest records of the topic come to by the rules of the configuration, as a new cluster would
// judge them.
type Sampled struct {
	Records int `json:"records"`
	Keyed   int `json:"keyed"` // of them, records with a key
	Empty   int `json:"empty"` // of them, records without a value, which are counted only
	// Types counts events by event_type, Letters dead letters by reason, and Left records that the rules leave out, by
	// what leaves them out. Example has the detail of one letter for each reason, with nothing of its record.
	Types   map[string]int    `json:"types"`
	Letters map[string]int    `json:"letters"`
	Left    map[string]int    `json:"left_out"`
	Example map[string]string `json:"letter_examples"`
}

// Sample decodes up to n of the newest records of the topic. It writes nothing anywhere.
func Sample(ctx context.Context, cfg *config.Config, deps Deps, n int) (*Sampled, error) {
	deps.complete()
	_, keys, k, err := openTopic(cfg, &deps)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	records, err := k.Newest(ctx, n)
	if err != nil {
		return nil, err
	}
	s := &Sampled{Types: map[string]int{}, Letters: map[string]int{}, Left: map[string]int{},
		Example: map[string]string{}}
	rules := shard.EventRules(&cfg.Rules, keys.First())
	rules.Letters.Details = event.TypeDetails // what is shown here is nobody's value
	dec := event.Decoder{Rules: rules, Key: keys.Key(keys.First())}
	var ev event.Event
	for _, r := range records {
		s.Records++
		if len(r.Key) > 0 {
			s.Keyed++
		}
		if r.Value == nil {
			s.Empty++
			continue
		}
		reason, detail := dec.Decode(r.Value, r.Timestamp.UnixMilli(), &ev)
		switch reason {
		case event.ReasonNone:
			name := ev.Type.String()
			if ev.TypeName != "" {
				name = ev.TypeName
			}
			s.Types[name]++
		case event.Excluded, event.Suppressed:
			s.Left[detail]++
		default:
			s.Letters[reason.String()]++
			if s.Example[reason.String()] == "" {
				s.Example[reason.String()] = detail
			}
		}
		dec.Reset()
	}
	return s, nil
}

// openTopic opens what a command needs that reads the topic and judges its records, beside the node and without its
// log. The caller closes the client.
func openTopic(cfg *config.Config, deps *Deps) (files *trust.Files, keys shard.Keys, k *kafka.Client, err error) {
	if err := shard.CheckRules(&cfg.Rules); err != nil {
		return nil, keys, nil, err
	}
	log := slog.New(slog.DiscardHandler)
	files = trust.NewFiles(deps.ReadFile, deps.Now, log)
	if keys, err = openKeys(files, cfg); err != nil {
		return nil, keys, nil, err
	}
	k, err = openKafka(cfg, deps, files, log)
	return files, keys, k, err
}

// CheckRules says what is wrong with the rules of a configuration, beyond what reading it says.
func CheckRules(cfg *config.Config) error { return shard.CheckRules(&cfg.Rules) }
