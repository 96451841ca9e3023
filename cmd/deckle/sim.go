package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"deckle/node/config"
	"deckle/sim"
)

// kafkaFlags say how to reach a broker. The password comes from DECKLE_KAFKA_PASSWORD.
type kafkaFlags struct {
	brokers         []string
	useTLS          bool
	ca, cert, key   string
	mechanism, user string
}

func (k *kafkaFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&k.brokers, "brokers", []string{"127.0.0.1:9092"}, "Kafka brokers, host:port,…")
	f.BoolVar(&k.useTLS, "tls", false, "connect with TLS")
	f.StringVar(&k.ca, "tls-ca", "", "PEM file of the brokers' CA (implies --tls)")
	f.StringVar(&k.cert, "tls-cert", "", "PEM file of the client's certificate")
	f.StringVar(&k.key, "tls-key", "", "PEM file of the client's key")
	f.StringVar(&k.mechanism, "sasl", "", "plain, scram-sha-256 or scram-sha-512; password from DECKLE_KAFKA_PASSWORD")
	f.StringVar(&k.user, "sasl-user", "", "user name")
}

func (k *kafkaFlags) opts() ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(k.brokers...)}
	if k.useTLS || k.ca != "" || k.cert != "" {
		t, err := (&config.TLS{CA: k.ca, Cert: k.cert, Key: k.key}).Client(os.ReadFile)
		if err != nil {
			return nil, usageError{err}
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	if k.mechanism == "" {
		return opts, nil
	}
	password := os.Getenv("DECKLE_KAFKA_PASSWORD")
	if k.user == "" || password == "" {
		return nil, usageError{errors.New("--sasl needs --sasl-user, and DECKLE_KAFKA_PASSWORD in the environment")}
	}
	switch k.mechanism {
	case "plain":
		return append(opts, kgo.SASL(plain.Auth{User: k.user, Pass: password}.AsMechanism())), nil
	case "scram-sha-256":
		return append(opts, kgo.SASL(scram.Auth{User: k.user, Pass: password}.AsSha256Mechanism())), nil
	case "scram-sha-512":
		return append(opts, kgo.SASL(scram.Auth{User: k.user, Pass: password}.AsSha512Mechanism())), nil
	}
	return nil, usageError{fmt.Errorf("--sasl %q: use plain, scram-sha-256 or scram-sha-512", k.mechanism)}
}

func newSimCommand() *cobra.Command {
	var o sim.Options
	var kafka kafkaFlags
	var truthPath string
	var asJSON bool
	cmd := &cobra.Command{
		Use:        "sim",
		Short:      "Produce the events of simulated readers",
		SuggestFor: []string{"produce", "generate", "load"},
		Long: `Produce the events of simulated readers of five brands: JSON, Snappy, acks=all,
idempotent, keyed by session. The topic must exist. With the first SIGINT or SIGTERM, or
when --events or --for is reached, every live session is ended.

--truth FILE writes down what must come out, for "deckle verify". The same seed gives the
same events.`,
		Example: `  deckle sim --brokers 127.0.0.1:9092 --rate 2000 --for 1m --truth truth.jsonl
  deckle sim --events 1000000 --rate 0 --seed 7 --producers 2
  deckle sim --duplicates 0.01 --late 0.005 --malformed 0.002 --out-of-order 0.02`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseZeros(cmd, "sessions", "producers"); err != nil {
				return err
			}
			opts, err := kafka.opts()
			if err != nil {
				return err
			}
			o.KafkaOpts = opts
			if err := o.Check(); err != nil { // before the truth's file is begun
				return usageError{err}
			}
			var truth *sim.Truth
			if truthPath != "" {
				if truth, err = sim.CreateTruth(truthPath); err != nil {
					return err
				}
			}
			s, err := sim.Open(cmd.Context(), o, truth)
			if err != nil {
				return err
			}
			defer s.Close()
			stop := every(5*time.Second, func() {
				st := s.Stats()
				fmt.Fprintf(cmd.ErrOrStderr(), "%v: %d records acknowledged of %d sent, %d live sessions\n",
					st.Elapsed.Round(time.Second), st.Acked, st.Sent, st.Live)
			})
			sum, err := s.Run(cmd.Context())
			stop()
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(sum)
			}
			elapsed := s.Stats().Elapsed
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d records in %v, %.0f per second\n",
				sum.Produced, elapsed.Round(time.Millisecond), float64(sum.Produced)/elapsed.Seconds())
			if err == nil && truth != nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d sessions, %d applied, %d duplicates, %d dead letters: %s\n",
					sum.Sessions, sum.Applied, sum.Duplicates, sum.Dead(), truthPath)
			}
			return err
		},
	}
	kafka.register(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Topic, "topic", "web_clicks", "topic; it must exist")
	f.Float64Var(&o.Rate, "rate", 2000, "records per second; 0: as fast as possible")
	f.Int64Var(&o.Events, "events", 0, "stop after this many records (default: no limit)")
	f.DurationVar(&o.Duration, "for", 0, "stop after this time (default: no limit)")
	f.IntVar(&o.Sessions, "sessions", 2000, "sessions live at once")
	f.IntVar(&o.Producers, "producers", 1, "producers side by side")
	f.Uint64Var(&o.Seed, "seed", 1, "the same seed gives the same events; a second run into one topic needs another")
	f.BoolVar(&o.Unkeyed, "unkeyed", false, "give records no key")
	f.StringVar(&truthPath, "truth", "", "file for what must come out")
	f.BoolVar(&asJSON, "json", false, "print the summary as one JSON object")
	faultFlags(cmd, &o.Faults)
	return cmd
}

// every calls f again and again until the returned function is called, which waits for a call under way.
func every(d time.Duration, f func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
