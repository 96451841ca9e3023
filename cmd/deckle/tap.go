package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"deckle/node/tap"
)

// maxTapLine bounds a line of a tap, in bytes: a session of the greatest size, or a record of which JSON writes each
// byte as six, and what stands beside it.
const maxTapLine = 64 << 20

func newTapCommand() *cobra.Command {
	api := &nodeAPI{}
	var stage, session string
	var partition int32
	var sample, count int
	var open time.Duration
	var clearly bool
	stages := make([]string, len(tap.Stages))
	for i, s := range tap.Stages {
		stages[i] = string(s)
	}
	cmd := &cobra.Command{
		Use:        "tap --stage " + strings.Join(stages, "|"),
		Short:      "Look at what passes through a node while it passes",
		SuggestFor: []string{"tail", "watch", "peek", "trace", "follow"},
		Long: `Show what passes one stage of a running node, as one JSON object a line:

  source   records as Kafka gives them, with what the rules make of each
  decoded  events as the rules let them in
  session  sessions as they stand after a record of theirs was applied
  row      rows that a sink has taken, with the epochs of their plan
  letter   dead letters that have been written

A node shows what passes it: of the shards that it leads, which the first line on standard
error names. Ask the others for theirs. A record that is fetched again passes again.

Records show what dead letters of them would show; --clear shows them as they came, and takes
the role admin. Of suppressed readers nothing is shown. It takes the role analyst, one that is
not held to brands; who has looked, at what, stands in the audit log.

A tap holds nothing up: at most 200 lines a second are shown, and how many were left out is
told at the end. --sample N shows one of N. Four taps may be open on a node.

Exit code 0: the time is over, the lines are there, or you have ended it; 1: the node could
not be asked, or has ended it; 2: wrong usage.`,
		Example: `  deckle tap --stage source --config deckle.yaml
  deckle tap --stage decoded --sample 100 --config deckle.yaml | jq .event.brand
  deckle tap --stage session --session 42-7f --for 10m --config deckle.yaml
  deckle tap --stage letter --count 1 --address node-2:8080 --ca ca.pem --token-file token`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"stage": {stage}, "for": {open.String()}}
			switch {
			case stage == "":
				return usagef("--stage is one of %s", strings.Join(stages, ", "))
			case open < tap.MinFor || open > tap.MaxFor:
				return usagef("--for is %s to %s", tap.MinFor, tap.MaxFor)
			case sample < 1 || count < 0 || partition < 0 && cmd.Flags().Changed("partition"):
				return usagef("--sample is 1 or more, --count and --partition are 0 or more")
			}
			q.Set("sample", strconv.Itoa(sample))
			if session != "" {
				q.Set("session", session)
			}
			if cmd.Flags().Changed("partition") {
				q.Set("partition", strconv.Itoa(int(partition)))
			}
			if clearly {
				q.Set("clear", "true")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), open+30*time.Second)
			defer cancel()
			resp, err := api.open(ctx, http.MethodGet, "/api/v1/tap?"+q.Encode(), nil)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			err = showTap(resp.Body, cmd.OutOrStdout(), cmd.ErrOrStderr(), count)
			if cmd.Context().Err() != nil { // whoever looks has had enough
				return nil
			}
			return err
		},
	}
	api.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&stage, "stage", "", "where to look: "+strings.Join(stages, ", "))
	f.StringVar(&session, "session", "", "only this session, by its id as the rules let it in")
	f.Int32Var(&partition, "partition", 0, "only this partition of the source topic (default all)")
	f.IntVar(&sample, "sample", 1, "show one of so many")
	f.IntVar(&count, "count", 0, "end after so many lines (default: when the time is over)")
	f.DurationVar(&open, "for", time.Minute, "how long to look, up to 10m")
	f.BoolVar(&clearly, "clear", false, "show records as they came (role admin)")
	return cmd
}

// tapWords is what the node says of a tap itself, among its lines.
type tapWords struct {
	Tap *struct {
		Node   string    `json:"node"`
		Leads  []uint32  `json:"leads"`
		Shards int       `json:"shards"`
		Until  time.Time `json:"until"`
		Seen   int64     `json:"seen"`
		Left   int64     `json:"left_out"`
		Ends   string    `json:"ends"`
	} `json:"tap"`
}

// showTap prints the lines of a tap to out and what the node says of it to about, until it ends or there were count
// lines (0: however many).
func showTap(from io.Reader, out, about io.Writer, count int) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxTapLine)
	shown := 0
	for lines.Scan() {
		line := lines.Bytes()
		var words tapWords
		if err := json.Unmarshal(line, &words); err != nil {
			return fmt.Errorf("the node's answer: %w", err)
		}
		switch t := words.Tap; {
		case t == nil:
			if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
				return err
			}
			if shown++; shown == count {
				return nil
			}
		case t.Node != "":
			fmt.Fprintf(about, "Node %s leads %d of %d shards %v; this ends at %s.\n", printable(t.Node), len(t.Leads),
				t.Shards, t.Leads, t.Until.UTC().Format(time.TimeOnly+"Z07:00"))
		case t.Ends != "":
			fmt.Fprintf(about, "%s: %d passed, %d shown, %d left out.\n", printable(t.Ends), t.Seen, shown, t.Left)
			if strings.HasPrefix(t.Ends, "its time") {
				return nil
			}
			return errors.New("the tap has ended early")
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the tap has broken off: %w", err)
	}
	return errors.New("the tap has broken off")
}
