package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newTopCommand() *cobra.Command {
	api := &nodeAPI{patience: 10 * time.Second}
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:        "top",
		Short:      "Watch nodes, limits, sinks, shards and partitions live",
		SuggestFor: []string{"watch", "live", "monitor", "dashboard"},
		Long: `Show the cluster live in a terminal: nodes, how far each limit is filled, sinks with the epochs
that they are behind, shards, and partitions with their lag, the furthest behind first. Any
node of the cluster will do. Who is behind, and offsets, are told by the node that was
asked; the lag of a partition by its shard's leader alone: "-" is what is not known.

  q, Ctrl-C      end
  space          stand still, and go on
  up, down, page up, page down, home    what the screen has no room for

Colours are for a terminal only; NO_COLOR=1 takes them away, and nothing is told by colour
alone. --once prints all of it once, for scripts and for what is no terminal.`,
		Example: `  deckle top --config deckle.yaml
  deckle top --address node-2:8080 --ca ca.pem --token-file token --every 5s
  deckle top --config deckle.yaml --once`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 200*time.Millisecond {
				return usagef("--every %s: give at least 200ms", every)
			}
			out := cmd.OutOrStdout()
			m := &topModel{every: every, paint: painter{colour: coloured(out, os.Getenv)},
				ask: func() (*topFrame, error) { return askTop(cmd.Context(), api) }}
			if once {
				frame, err := m.ask()
				if err != nil {
					return err
				}
				m.took(frame, nil)
				_, err = fmt.Fprintln(out, m.all())
				return err
			}
			f, ok := out.(*os.File)
			if !ok || !term.IsTerminal(int(f.Fd())) {
				return usageError{errors.New("standard output is no terminal: give --once")}
			}
			_, err := tea.NewProgram(m, tea.WithContext(cmd.Context()), tea.WithOutput(out),
				tea.WithInput(cmd.InOrStdin()), tea.WithoutSignalHandler()).Run()
			if cmd.Context().Err() != nil { // SIGINT and SIGTERM end it in order
				return nil
			}
			return err
		},
	}
	api.flags(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "print all of it once")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often it asks")
	return cmd
}

// topFrame is what one look has shown.
type topFrame struct {
	cluster clusterStatus
	status  topStatus
}

// topStatus is the part of /api/v1/status that deckle top shows.
type topStatus struct {
	Totals struct {
		Applied  int64 `json:"applied_events"`
		Letters  int64 `json:"dead_letters"`
		Sessions int64 `json:"live_sessions"`
	} `json:"totals"`
	Shards []topShard `json:"shards"`
}

type topShard struct {
	Shard      uint32            `json:"shard"`
	Leader     string            `json:"leader"`
	Level      int               `json:"level"`
	LastClosed uint64            `json:"last_closed_epoch"`
	Acked      map[string]uint64 `json:"acked_epochs"`
	Sessions   int64             `json:"live_sessions"`
	LagRecords *int64            `json:"lag_records"`
	LagSeconds *float64          `json:"lag_seconds"`
	Paused     string            `json:"paused"`
	Stopped    map[string]string `json:"stopped"`
	Partitions []topPartition    `json:"partitions"`
}

type topPartition struct {
	Partition int32  `json:"partition"`
	Next      *int64 `json:"next_offset"`
	Idle      bool   `json:"idle"`
	Unread    bool   `json:"unread"`
	Lag       *int64 `json:"lag_records"`
}

func askTop(ctx context.Context, api *nodeAPI) (*topFrame, error) {
	f := &topFrame{}
	if err := api.do(ctx, http.MethodGet, "/api/v1/cluster", nil, &f.cluster); err != nil {
		return nil, err
	}
	if err := api.do(ctx, http.MethodGet, "/api/v1/status", nil, &f.status); err != nil {
		return nil, err
	}
	if f.cluster.Health == "" {
		return nil, errors.New("the node's answer is not that of a Deckle node")
	}
	return f, nil
}

// topModel is the terminal: a frame, and which part of it is on the screen.
type topModel struct {
	ask   func() (*topFrame, error)
	every time.Duration
	paint painter

	frame   *topFrame
	err     error    // of the last look; the frame is then an older one
	rate    *float64 // events a second between the last two frames
	width   int
	height  int
	from    int // the first line of the body that is shown
	still   bool
	asked   int // numbers the looks: an answer counts only for the last one
	waiting bool
}

type (
	topTick   struct{}
	topAnswer struct {
		asked int
		frame *topFrame
		err   error
	}
)

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return m.look() }

// look asks once, beside the terminal.
func (m *topModel) look() tea.Cmd {
	m.asked++
	m.waiting = true
	n := m.asked
	return func() tea.Msg {
		frame, err := m.ask()
		return topAnswer{n, frame, err}
	}
}

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case topAnswer:
		if msg.asked == m.asked {
			m.waiting = false
			m.took(msg.frame, msg.err)
			return m, tea.Tick(m.every, func(time.Time) tea.Msg { return topTick{} })
		}
	case topTick:
		if !m.still && !m.waiting {
			return m, m.look()
		}
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	}
	return m, nil
}

func (m *topModel) key(key string) tea.Cmd {
	page := max(m.height-2, 1)
	switch key {
	case "q", "ctrl+c", "esc":
		return tea.Quit
	case "space":
		if m.still = !m.still; !m.still && !m.waiting {
			return m.look()
		}
	case "up", "k":
		m.from--
	case "down", "j":
		m.from++
	case "pgup":
		m.from -= page
	case "pgdown":
		m.from += page
	case "home", "g":
		m.from = 0
	}
	m.from = max(m.from, 0)
	return nil
}

// took takes an answer. Without one the last frame stays, and the screen says how old it is.
func (m *topModel) took(frame *topFrame, err error) {
	if m.err = err; err != nil {
		return
	}
	m.rate = nil
	if m.frame != nil {
		events := frame.status.Totals.Applied - m.frame.status.Totals.Applied
		if d := frame.cluster.Now.Sub(m.frame.cluster.Now).Seconds(); d > 0 && events >= 0 {
			m.rate = new(float64(events) / d)
		}
	}
	m.frame = frame
}

// View implements tea.Model.
func (m *topModel) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	return v
}
