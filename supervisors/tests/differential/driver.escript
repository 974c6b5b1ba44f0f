#!/usr/bin/env escript
%% -*- erlang -*-
%%! +S 1 +SDio 1 +SDcpu 1 -noinput
%%
%% Runs scripts against OTP's own supervisor and prints what was seen.
%%
%%   main -- one process per script ("conductor") -- parent -- the supervisor -- children
%%
%% In: one term a line, as `script/erlang.rs` writes them. Out, per script and in the order of their ends: `= N`, one line
%% for each thing seen, `-` between two steps, `.` after the last.
%%
%% The start function of every child asks the conductor what to answer, so the conductor knows a moment at which the
%% supervisor is surely busy, and can put requests and exits into its mailbox before the supervisor goes on. The machine
%% has one scheduler: a process that ends has told all who watch it before any of them runs.
-mode(compile).
-export([init/1, start/3]).

%% How many scripts run at once unless the command line says otherwise.
-define(AT_ONCE, 64).
%% No script of ours is a longer line.
-define(LINE_MAX, 1048576).
%% A supervisor that says nothing for so long never will: a mistake of this driver or of the script.
-define(STUCK_MS, 30000).

-record(seen, {
    sup, sup_monitor,
    simple,             % whether the children are dynamic
    answers,            % Id => what its next starts shall answer
    live = #{},         % Id => the process that lives
    last = #{},         % Id => the process of its latest start, alive or not
    monitors = #{},     % monitor => {Id, Pid}
    calls = [],         % {Tag, Text} of requests without a reply, newest first
    sync,               % tag of the request that tells us the mailbox was empty
    stirred = false,    % whether anything happened since that request was sent
    held = false,       % whether the supervisor is suspended or in a start function
    ended = false,
    clock,              % milliseconds: where `advance` has brought the script
    lines = []          % newest first
}).

%% === main ===

main(Args) ->
    logger:set_primary_config(level, none),
    AtOnce = case Args of [N] -> list_to_integer(N); [] -> ?AT_ONCE end,
    Port = open_port({fd, 0, 1}, [binary, eof, {line, ?LINE_MAX}]),
    serve(Port, AtOnce, AtOnce, queue:new()).

%% Lines are taken from the mailbox as they come: one that is full of them makes every message slow to find. There is
%% room for `Room` more scripts; the end of the input is believed when none runs.
serve(Port, AtOnce, Room, Lines) ->
    case queue:out(Lines) of
        {{value, Line}, Left} when Room > 0 ->
            spawn_conductor(Line),
            serve(Port, AtOnce, Room - 1, Left);
        _ ->
            receive
                {done, Text} ->
                    port_command(Port, Text),
                    serve(Port, AtOnce, Room + 1, Lines);
                {Port, {data, {eol, Line}}} ->
                    serve(Port, AtOnce, Room, queue:in(Line, Lines));
                {Port, eof} when Room =:= AtOnce ->
                    ok
            end
    end.

%% Linked: a line that is no term ends the machine.
spawn_conductor(Line) ->
    Main = self(),
    spawn_link(fun() ->
        {ok, Tokens, _} = erl_scan:string(binary_to_list(Line)),
        {ok, Script} = erl_parse:parse_term(Tokens),
        Lines = try conduct(Script)
                catch Class:Reason:Stack -> [io_lib:format("driver failed: ~0p", [{Class, Reason, Stack}])]
                end,
        Main ! {done, [io_lib:format("= ~w~n", [element(2, Script)]), [[Each, $\n] || Each <- Lines], ".\n"]}
    end).

%% === the conductor ===

conduct({script, _N, Flags, Children, Answers, Ops}) ->
    Conductor = self(),
    Parent = spawn(fun() -> parent(Conductor, Flags, Children) end),
    S0 = receive
        {init, Sup} ->
            Monitor = monitor(process, Sup),
            Sup ! {go, Conductor},
            #seen{sup = Sup, sup_monitor = Monitor, answers = maps:from_list(Answers),
                  simple = element(1, Flags) =:= simple_one_for_one}
    end,
    S1 = settle(S0),
    S2 = play(Ops, S1#seen{clock = erlang:monotonic_time(millisecond)}),
    clean_up(Parent, S2),
    lists:reverse(S2#seen.lines).

play(_Ops, #seen{ended = true} = S) -> S;
play([], S) -> S;
play([Op | Ops], S) -> play(Ops, settle(op(Op, line("-", S)))).

op({one, Act}, S) ->
    act(Act, S);
op({together, Acts}, S) ->
    ok = sys:suspend(S#seen.sup),
    S1 = held(Acts, S),
    ok = sys:resume(S#seen.sup),
    S1;
op({advance, Ms}, S) ->
    Until = S#seen.clock + Ms,
    timer:sleep(max(0, Until - erlang:monotonic_time(millisecond))),
    S#seen{clock = Until}.

%% Things that happen while the supervisor cannot see to them.
held(Acts, S) -> (lists:foldl(fun act/2, S#seen{held = true}, Acts))#seen{held = false}.

%% One thing from outside. It is in the supervisor's mailbox when this returns, unless the supervisor has already taken it.
act({exit, Id, Reason}, #seen{live = Live} = S) ->
    case Live of
        #{Id := Pid} -> end_child(Pid, Reason, S);
        #{} -> S
    end;
act({call, Call}, S) ->
    Tag = make_ref(),
    S#seen.sup ! {'$gen_call', {self(), Tag}, request(Call, S)},
    S#seen{calls = [{Tag, Call} | S#seen.calls]};
act(stop, S) ->
    S#seen.sup ! {system, {self(), make_ref()}, {terminate, shutdown}},
    S.

end_child(Pid, Reason, S) ->
    case Reason of
        kill -> exit(Pid, kill);
        _ -> Pid ! {exit, Reason}
    end,
    receive
        {'DOWN', Monitor, process, Pid, Why} ->
            await_exit_signal(S, Pid),
            down(Monitor, Why, S)
    end.

%% A supervisor that is suspended or in a start function keeps the signal in its mailbox. One that is free takes it when it
%% comes: nothing else can be before it.
await_exit_signal(#seen{held = false}, _Pid) ->
    ok;
await_exit_signal(#seen{sup = Sup} = S, Pid) ->
    {messages, Messages} = process_info(Sup, messages),
    case lists:any(fun({'EXIT', From, _}) -> From =:= Pid; (_) -> false end, Messages) of
        true -> ok;
        false -> erlang:yield(), await_exit_signal(S, Pid)
    end.

%% Follows what happens until nothing more does. The request goes behind everything that is in the mailbox; a retry the
%% supervisor sends itself meanwhile comes after it, but never without something having been seen.
settle(#seen{ended = true} = S) ->
    S;
settle(S) ->
    Tag = make_ref(),
    S#seen.sup ! {'$gen_call', {self(), Tag}, {get_childspec, '$nobody'}},
    follow(S#seen{sync = Tag, stirred = false}).

follow(#seen{sync = Sync, sup_monitor = SupMonitor} = S) ->
    receive
        {Sync, _} when S#seen.stirred -> settle(S);
        {Sync, _} -> S;
        {start, Sup, Tag, Id, Habit} -> follow(answer(Sup, Tag, Id, Habit, S));
        {'DOWN', SupMonitor, process, _, Reason} -> ended(Reason, S);
        {'DOWN', Monitor, process, _, Reason} -> follow(down(Monitor, Reason, S));
        {Tag, Reply} -> follow(reply(Tag, Reply, S))
    after ?STUCK_MS -> error({stuck, lists:reverse(S#seen.lines)})
    end.

answer(Sup, Tag, Id, Habit, S0) ->
    {{Answer, Meanwhile}, S1} = next_answer(Id, S0),
    S2 = held(Meanwhile, line(io_lib:format("start ~w ~w", [Id, Answer]), S1)),
    case Answer of
        ok ->
            {Pid, Monitor} = spawn_child(Habit),
            Sup ! {Tag, {ok, Pid}},
            #seen{live = Live, last = Last, monitors = Monitors} = S2,
            S2#seen{live = Live#{Id => Pid}, last = Last#{Id => Pid}, monitors = Monitors#{Monitor => {Id, Pid}}};
        _ ->
            Sup ! {Tag, Answer},
            S2
    end.

next_answer(Id, #seen{answers = Answers} = S) ->
    case Answers of
        #{Id := [Next | Rest]} -> {Next, S#seen{answers = Answers#{Id := Rest}}};
        #{} -> {{ok, []}, S}
    end.

down(Monitor, Reason, #seen{monitors = Monitors, live = Live} = S) ->
    #{Monitor := {Id, Pid}} = Monitors,
    Left = case Live of #{Id := Pid} -> maps:remove(Id, Live); #{} -> Live end,
    line(io_lib:format("down ~w ~0p", [Id, Reason]), S#seen{live = Left, monitors = maps:remove(Monitor, Monitors)}).

reply(Tag, Reply, #seen{calls = Calls} = S) ->
    case lists:keytake(Tag, 1, Calls) of
        {value, {Tag, Call}, Left} ->
            line(["reply ", label(Call), $\s, outcome(Call, Reply, S)], S#seen{calls = Left});
        false -> % the acknowledgement of `stop`
            S
    end.

ended(Reason, S) ->
    Text = case Reason of
        {shutdown, {failed_to_start_child, Id, _}} -> io_lib:format("failed ~w", [Id]);
        _ -> io_lib:format("ended ~0p", [Reason])
    end,
    Gone = [["reply ", label(Call), " gone"] || {_, Call} <- lists:reverse(S#seen.calls)],
    lists:foldl(fun line/2, S#seen{ended = true, calls = []}, [Text | Gone]).

line(Text, S) -> S#seen{lines = [Text | S#seen.lines], stirred = true}.

clean_up(Parent, S) ->
    exit(Parent, kill),
    S#seen.ended orelse exit(S#seen.sup, kill),
    [exit(Pid, kill) || Pid <- maps:values(S#seen.live)],
    ok.

%% === requests and replies ===

request({start_child, Child}, S) ->
    case S#seen.simple of
        true -> {start_child, [element(1, Child), element(5, Child)]};
        false -> {start_child, spec(self(), Child)}
    end;
request({terminate_child, Id}, S) -> {terminate_child, handle(Id, S)};
request({get_childspec, Id}, S) -> {get_childspec, handle(Id, S)};
request(Call, _S) -> Call.

%% Dynamic children have no id: they are named by their process. One that never had a process is named by a stranger's.
handle(Id, S) ->
    case S#seen.simple of
        true -> maps:get(Id, S#seen.last, self());
        false -> Id
    end.

label({start_child, Child}) -> io_lib:format("start_child ~w", [element(1, Child)]);
label({Call, Id}) -> io_lib:format("~w ~w", [Call, Id]);
label(Call) -> atom_to_list(Call).

outcome(which_children, List, S) ->
    Entries = [entry(Id, State, S) || {Id, State, _, _} <- List],
    lists:join($\s, ["of" | case S#seen.simple of true -> lists:sort([lists:flatten(Each) || Each <- Entries]); false -> Entries end]);
outcome(count_children, Counts, S) ->
    %% OTP 25 forgets to count a dynamic child out that is terminated while it is being restarted, so that `active` is
    %% too low from then on: it is left out there.
    Kinds = case S#seen.simple of true -> [specs, workers]; false -> [specs, active, workers] end,
    lists:join($\s, [io_lib:format("~w=~w", [Kind, proplists:get_value(Kind, Counts)]) || Kind <- Kinds]);
outcome({get_childspec, _}, {ok, #{restart := Restart, shutdown := Shutdown, significant := Significant}}, _S) ->
    io_lib:format("ok ~w ~w significant=~w", [Restart, Shutdown, Significant]);
outcome(_, ok, _S) -> "ok";
outcome(_, {ok, undefined}, _S) -> "ok undefined";
outcome(_, {ok, Pid}, _S) when is_pid(Pid) -> "ok";
outcome(_, {error, {Reason, _}}, _S) -> io_lib:format("error ~0p", [Reason]);
outcome(_, {error, Reason}, _S) -> io_lib:format("error ~0p", [Reason]).

entry(undefined, restarting, _S) -> "restarting";
entry(undefined, Pid, S) ->
    [Id] = [Id || {Id, Last} <- maps:to_list(S#seen.last), Last =:= Pid],
    io_lib:format("~w:running", [Id]);
entry(Id, Pid, _S) when is_pid(Pid) -> io_lib:format("~w:running", [Id]);
entry(Id, State, _S) -> io_lib:format("~w:~w", [Id, State]).

%% === processes of the supervisor ===

%% Only somebody who is not needed elsewhere can wait for `start_link`.
parent(Conductor, Flags, Children) ->
    process_flag(trap_exit, true),
    supervisor:start_link(?MODULE, {Conductor, Flags, Children}),
    receive after infinity -> ok end.

%% The supervisor's callback.
init({Conductor, {Strategy, Intensity, Period, AutoShutdown}, Children}) ->
    Conductor ! {init, self()},
    receive {go, Conductor} -> ok end,
    Flags = #{strategy => Strategy, intensity => Intensity, period => Period, auto_shutdown => AutoShutdown},
    Specs = case Strategy of
        simple_one_for_one ->
            [Template] = Children,
            [(spec(Conductor, Template))#{start => {?MODULE, start, [Conductor]}}];
        _ -> [spec(Conductor, Child) || Child <- Children]
    end,
    {ok, {Flags, Specs}}.

spec(Conductor, {Id, Restart, Shutdown, Significant, Habit}) ->
    #{id => Id, restart => Restart, shutdown => Shutdown, significant => Significant,
      start => {?MODULE, start, [Conductor, Id, Habit]}}.

%% Every child's start function, in the supervisor.
start(Conductor, Id, Habit) ->
    Tag = make_ref(),
    Conductor ! {start, self(), Tag, Id, Habit},
    receive
        {Tag, {ok, Pid}} -> link(Pid), {ok, Pid};
        {Tag, ignore} -> ignore;
        {Tag, error} -> {error, refused}
    end.

%% A deaf child must be deaf before anybody can tell it to end.
spawn_child(obeys) ->
    spawn_monitor(fun() -> receive {exit, Reason} -> exit(Reason) end end);
spawn_child(deaf) ->
    Conductor = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        Conductor ! {deaf, self()},
        receive {exit, Reason} -> exit(Reason) end
    end),
    receive {deaf, Pid} -> {Pid, Monitor} end.
