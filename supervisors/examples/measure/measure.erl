%% The workloads of workload.rs for OTP's supervisor: the same children, the same moments, the same names.
%%
%% measure:main([Subject, Kind, Children, Restarts, Runtime, LimitSeconds]) prints `metric value unit` lines and halts.
%% A child with nothing to do is a gen_server; children without an order are a simple_one_for_one, the ordered list is
%% a one_for_one, whose children are stopped one after another in reverse.
-module(measure).
-export([main/1, init/1, probe/1, handle_call/3, handle_cast/2]).

%% What workload.rs and ours.rs say of each.
-define(WARM_UP, 100).
-define(FIRST, 100).
-define(INTENSITY, 4294967295).
-define(GRACE_MS, 5000).
-define(LIMIT_REACHED, 124).

%% Places in a witness's counters.
-define(BORN, 1).
-define(GOAL, 2).
-define(TELLING, 3).

main([_Subject, Kind, Children, Restarts, _Runtime, Limit]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    watch(list_to_integer(Limit) * 1000),
    _ = start_and_stop(simple_one_for_one, ?WARM_UP),
    [print(Value) || Value <- run(Kind, list_to_integer(Children), list_to_integer(Restarts))],
    halt(0).

run("start", N, _) -> start_and_stop(simple_one_for_one, N);
run("chain", N, _) -> start_and_stop(one_for_one, N);
run("restart", N, Times) -> restart(N, Times);
run("siblings", N, Times) -> restart(N, Times);
run("burst", N, _) -> burst(N).

watch(Limit) ->
    spawn(fun() -> receive after Limit -> halt(?LIMIT_REACHED) end end).

print({Metric, Value, Unit}) ->
    io:format("~s ~.3f ~s~n", [Metric, float(Value), Unit]).

%% --- the workloads ---

start_and_stop(Strategy, N) ->
    Witness = witness(),
    Supervisor = supervise(Strategy, Witness),
    Before = resident_bytes(),
    expect(Witness, N),
    Asked = now_ns(),
    fill(Supervisor, Strategy, Witness, 1, N),
    Start = reached() - Asked,
    Taken = resident_bytes() - Before,
    Stop = stop(Supervisor),
    [{"start", N * 1.0e9 / Start, "children/s"},
     {"stop", Stop / 1.0e6, "ms"},
     {"mem_per_child", Taken / N, "bytes"}].

restart(Siblings, Times) ->
    Witness = witness(),
    Supervisor = supervise(simple_one_for_one, Witness),
    fill(Supervisor, simple_one_for_one, Witness, 1, Siblings),
    tell(Witness),
    fill(Supervisor, simple_one_for_one, Witness, 1, 1),
    {Probe, _} = next(),
    Took = lists:reverse(fail(Probe, Times, [])),
    First = lists:sublist(Took, ?FIRST),
    [{"restart_p50", percentile(Took, 0.5) / 1000, "us"},
     {"restart_p99", percentile(Took, 0.99) / 1000, "us"},
     {"restart_first_p50", percentile(First, 0.5) / 1000, "us"}].

fail(_, 0, Took) ->
    Took;
fail(Probe, Times, Took) ->
    Failed = now_ns(),
    gen_server:cast(Probe, fail),
    {Successor, At} = next(),
    fail(Successor, Times - 1, [At - Failed | Took]).

burst(N) ->
    Witness = witness(),
    Supervisor = supervise(simple_one_for_one, Witness),
    fill(Supervisor, simple_one_for_one, Witness, 1, N),
    Probes = [Probe || {_, Probe, _, _} <- supervisor:which_children(Supervisor)],
    expect(Witness, 2 * N),
    Killed = now_ns(),
    [exit(Probe, kill) || Probe <- Probes],
    Took = reached() - Killed,
    [{"restarts_per_second", N * 1.0e9 / Took, "restarts/s"}].

%% By the nearest rank, as in table.rs.
percentile(Values, Share) ->
    lists:nth(round((length(Values) - 1) * Share) + 1, lists:sort(Values)).

now_ns() ->
    erlang:monotonic_time(nanosecond).

resident_bytes() ->
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [Kibibytes]} = re:run(Status, "VmRSS:\\s+(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Kibibytes) * 1024.

%% --- the supervisor ---

supervise(Strategy, Witness) ->
    {ok, Supervisor} = supervisor:start_link(?MODULE, {supervisor, Strategy, Witness}),
    Supervisor.

fill(_, _, _, From, To) when From > To ->
    ok;
fill(Supervisor, simple_one_for_one, Witness, From, To) ->
    {ok, _} = supervisor:start_child(Supervisor, []),
    fill(Supervisor, simple_one_for_one, Witness, From + 1, To);
fill(Supervisor, one_for_one, Witness, From, To) ->
    {ok, _} = supervisor:start_child(Supervisor, spec(From, Witness)),
    fill(Supervisor, one_for_one, Witness, From + 1, To).

stop(Supervisor) ->
    Monitor = monitor(process, Supervisor),
    Asked = now_ns(),
    exit(Supervisor, shutdown),
    receive {'DOWN', Monitor, process, _, _} -> now_ns() - Asked end.

spec(Id, Witness) ->
    #{id => Id, start => {?MODULE, probe, [Witness]}, restart => permanent, shutdown => ?GRACE_MS}.

flags(Strategy) ->
    #{strategy => Strategy, intensity => ?INTENSITY, period => 1}.

%% --- the child and its witness ---

probe(Witness) ->
    gen_server:start_link(?MODULE, {probe, Witness}, []).

init({supervisor, simple_one_for_one, Witness}) ->
    {ok, {flags(simple_one_for_one), [spec(probe, Witness)]}};
init({supervisor, one_for_one, _}) ->
    {ok, {flags(one_for_one), []}};
init({probe, Witness}) ->
    begins(Witness),
    {ok, Witness}.

handle_call(_, _, Witness) ->
    {reply, ok, Witness}.

handle_cast(fail, Witness) ->
    {stop, told_to, Witness}.

witness() ->
    {atomics:new(3, []), self()}.

expect({Counters, _}, Goal) ->
    atomics:put(Counters, ?GOAL, Goal).

tell({Counters, _}) ->
    atomics:put(Counters, ?TELLING, 1).

begins({Counters, Main}) ->
    case atomics:get(Counters, ?TELLING) of
        1 -> Main ! {life, self(), now_ns()};
        0 -> ok
    end,
    Born = atomics:add_get(Counters, ?BORN, 1),
    case atomics:get(Counters, ?GOAL) of
        Born -> Main ! {reached, now_ns()};
        _ -> ok
    end.

reached() ->
    receive {reached, At} -> At end.

next() ->
    receive {life, Probe, At} -> {Probe, At} end.
