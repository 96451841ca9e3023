//go:build cgo && linux

package main

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

const (
	// revision is below FeatureCustomSerialization, so that a block of the protocol and of the engine's Native format
	// differ by the block info alone.
	revision = 54453
	// rawRevision is below FeatureBlockInfo's use in EncodeRawBlock and any other feature: the Native format in files.
	rawRevision = 54449
	// writeTimeout bounds how long a client may refuse to take its answer.
	writeTimeout = time.Minute
)

// session is one connection.
type session struct {
	conn           net.Conn
	eng            *engine
	spool          string
	user, password string
	verbose        bool

	r        *proto.Reader
	buf      proto.Buffer
	w        *compress.Writer
	version  int
	database string
	compress bool
}

func newSession(c net.Conn, eng *engine, spool, user, password string, verbose bool) *session {
	return &session{
		conn: c, eng: eng, spool: spool, user: user, password: password, verbose: verbose,
		r: proto.NewReader(c), w: compress.NewWriter(compress.LevelZero, compress.LZ4),
	}
}

// queryError is an exception for the client: the engine's text, which begins with its code.
type queryError struct{ text string }

func (e *queryError) Error() string { return e.text }

func (s *session) serve() error {
	if err := s.hello(); err != nil {
		return err
	}
	for {
		p, err := s.r.UVarInt()
		if err != nil {
			return err
		}
		switch proto.ClientCode(p) {
		case proto.ClientCodePing:
			proto.ServerCodePong.Encode(&s.buf)
			err = s.flush()
		case proto.ClientCodeQuery:
			err = s.query()
		case proto.ClientCodeData:
			// Still of a query that has failed already: the client had not read the exception when it sent this.
			_, _, err = s.block()
		case proto.ClientCodeCancel:
		default:
			return fmt.Errorf("packet %d is not supported", p)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) hello() error {
	p, err := s.r.UVarInt()
	if err != nil {
		return err
	}
	if proto.ClientCode(p) != proto.ClientCodeHello {
		return fmt.Errorf("packet %d where a hello was expected", p)
	}
	var h proto.ClientHello
	if err := h.Decode(s.r); err != nil {
		return err
	}
	s.version = min(h.ProtocolVersion, revision)
	same := subtle.ConstantTimeCompare([]byte(h.User+"\x00"+h.Password), []byte(s.user+"\x00"+s.password))
	if same != 1 {
		if err := s.exception(516, h.User+": Authentication failed: password is incorrect, or there is no user with such name."); err != nil {
			return err
		}
		return fmt.Errorf("authentication of %q failed", h.User)
	}
	s.database = h.Database
	if s.database == "" {
		s.database = "default"
	}
	(&proto.ServerHello{
		Name: "ClickHouse", Major: 26, Minor: 5, Patch: 3, Revision: revision, Timezone: "UTC", DisplayName: "chfront",
	}).EncodeAware(&s.buf, s.version)
	return s.flush()
}

func (s *session) flush() error {
	defer s.buf.Reset()
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(s.buf.Buf)
	return err
}

func (s *session) exception(code int, text string) error {
	s.buf.Reset() // nothing of a half-written answer
	proto.ServerCodeException.Encode(&s.buf)
	e := proto.Exception{Code: proto.Error(code), Name: "DB::Exception", Message: text}
	e.EncodeAware(&s.buf, s.version)
	return s.flush()
}

// block reads one client data packet, its code already read.
func (s *session) block() (proto.Block, proto.Results, error) {
	var d proto.ClientData
	if err := d.DecodeAware(s.r, s.version); err != nil {
		return proto.Block{}, nil, err
	}
	if s.compress {
		s.r.EnableCompression()
		defer s.r.DisableCompression()
	}
	var b proto.Block
	var res proto.Results
	err := b.DecodeBlock(s.r, s.version, res.Auto())
	return b, res, err
}

// nextBlock reads the next packet, which must be data. left is true when the client cancelled instead.
func (s *session) nextBlock() (b proto.Block, res proto.Results, left bool, err error) {
	p, err := s.r.UVarInt()
	if err != nil {
		return b, nil, false, err
	}
	switch proto.ClientCode(p) {
	case proto.ClientCodeData:
		b, res, err = s.block()
		return b, res, false, err
	case proto.ClientCodeCancel:
		return b, nil, true, nil
	default:
		return b, nil, false, fmt.Errorf("packet %d where data was expected", p)
	}
}

func (s *session) query() error {
	var q proto.Query
	if err := q.DecodeAware(s.r, s.version); err != nil {
		return err
	}
	s.compress = q.Compression == proto.CompressionEnabled
	if b, _, left, err := s.nextBlock(); err != nil || left {
		return err
	} else if !b.End() {
		return errors.New("external tables are not supported")
	}
	start := time.Now()
	err := s.execute(q)
	if s.verbose {
		log.Printf("%s %s %q settings=%v err=%v", s.conn.RemoteAddr(), time.Since(start).Round(time.Millisecond), firstLine(q.Body), q.Settings, err)
	}
	var qe *queryError
	switch {
	case errors.As(err, &qe):
		return s.exception(codeOf(qe.text), qe.text)
	case err != nil:
		return err
	}
	proto.ServerCodeEndOfStream.Encode(&s.buf)
	return s.flush()
}

func (s *session) execute(q proto.Query) error {
	if target, ok := insertTarget(q.Body); ok {
		return s.insert(q, target)
	}
	out, err := s.engine("Native", withSettings(q.Body, q.Settings))
	if err != nil {
		return err
	}
	r := proto.NewReader(bytes.NewReader(out))
	for {
		var b proto.Block
		var res proto.Results
		switch err := b.DecodeRawBlock(r, rawRevision, res.Auto()); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &queryError{fmt.Sprintf("Code: 50. DB::Exception: chfront cannot pass this result on: %v", err)}
		}
		if err := s.send(b, inputs(res)); err != nil {
			return err
		}
	}
}

func (s *session) engine(format string, queries ...string) ([]byte, error) {
	out, err := s.eng.run(s.database, format, queries...)
	if err != nil {
		return nil, &queryError{err.Error()}
	}
	return out, nil
}

// send writes one data packet.
func (s *session) send(b proto.Block, in []proto.InputColumn) error {
	proto.ServerCodeData.Encode(&s.buf)
	s.buf.PutString("") // name of a temporary table: none
	start := len(s.buf.Buf)
	b.Info.BucketNum = -1
	if err := b.EncodeBlock(&s.buf, s.version, in); err != nil {
		return err
	}
	if s.compress {
		if err := s.w.Compress(s.buf.Buf[start:]); err != nil {
			return err
		}
		s.buf.Buf = append(s.buf.Buf[:start], s.w.Data...)
	}
	return s.flush()
}

func inputs(res proto.Results) []proto.InputColumn {
	in := make([]proto.InputColumn, 0, len(res))
	for _, c := range res {
		d := c.Data
		if a, ok := d.(*proto.ColAuto); ok {
			d = a.Data
		}
		in = append(in, proto.InputColumn{Name: c.Name, Data: d.(proto.ColInput)})
	}
	return in
}

func firstLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), 160)]
}
