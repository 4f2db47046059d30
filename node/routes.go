package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
)

// commandRoute makes a handler of a command's type: the body, then the variables of the path, fill a new value of it.
func commandRoute(bus *commands.Bus, prototype any) (server.Call, error) {
	t := reflect.TypeOf(prototype)
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("a command is a struct, not %T", prototype)
	}
	return func(ctx context.Context, r *http.Request) (any, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		cmd := reflect.New(t)
		if err := fill(cmd.Interface(), body, r); err != nil {
			return nil, err
		}
		meta, err := server.Meta(r)
		if err != nil {
			return nil, err
		}
		if meta.ID != "" {
			meta.Hash = sha256.Sum256(append([]byte(t.String()+" "+r.URL.Path+" "), body...))
		}
		receipt, err := bus.Dispatch(ctx, meta, cmd.Elem().Interface())
		if errors.Is(err, eventstore.ErrDurabilityTimeout) {
			return receiptOf(receipt), err
		}
		if err != nil {
			return nil, err
		}
		return receiptOf(receipt), nil
	}, nil
}

var routeVariable = regexp.MustCompile(`\{([a-zA-Z_]+)\}`)

// fill decodes the body strictly and lets the path have the last word.
func fill(cmd any, body []byte, r *http.Request) error {
	if len(bytes.TrimSpace(body)) > 0 {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(cmd); err != nil {
			return fmt.Errorf("%w: body: %w", eventstore.ErrInvalid, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: body: more than one JSON value", eventstore.ErrInvalid)
		}
	}
	for _, m := range routeVariable.FindAllStringSubmatch(r.Pattern, -1) {
		name := m[1]
		if err := setByJSONName(reflect.ValueOf(cmd).Elem(), name, r.PathValue(name)); err != nil {
			return fmt.Errorf("%w: path: %s: %w", eventstore.ErrInvalid, name, err)
		}
	}
	return nil
}

func setByJSONName(v reflect.Value, name, text string) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		jsonName, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || !strings.EqualFold(cmp.Or(jsonName, f.Name), name) {
			continue
		}
		switch f.Type.Kind() {
		case reflect.String:
			v.Field(i).SetString(text)
			return nil
		case reflect.Int, reflect.Int64:
			number, err := strconv.ParseInt(text, 10, 64)
			v.Field(i).SetInt(number)
			return err
		}
		return fmt.Errorf("a %s cannot come from the path", f.Type)
	}
	return errors.New("the command has no such field")
}
