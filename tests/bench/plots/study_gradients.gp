# study_gradients.gp    gradients by distance and what is learnt; study_gradients.py gives out, fixed (steps), names (second
# tasks), networks (A|B|..), texts (a title), first, second, learnt, text (numbers of lines) and gradients_PANEL.tsv
set terminal svg size 1300,860 font 'Helvetica,12' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'study_gradients.gp')-1].'style.gp'
set multiplot layout 2,2
set logscale y
set format y '10^{%T}'
unset mytics
set xlabel 'steps back from the loss'
set ylabel '||dL/dh|| / that at the last step'
set key outside right samplen 1.5
set yrange [1e-20:1e4]
set title 'recall of 400 steps, before training'
if (first > 0) plot for [i=0:first-1] 'gradients_first.tsv' index i using 1:2 with linespoints lt i+1
set title sprintf('recall of %d steps, after training beside a second task', fixed)
if (second > 0) plot for [i=0:second-1] 'gradients_second.tsv' index i using 1:2 with linespoints lt i+1
set title texts.': class of the first, after training'
set ylabel '||dL/dh||'
set yrange [1e-10:10]
if (text > 0) plot for [i=0:text-1] 'gradients_text.tsv' index i using 1:2 with linespoints lt i+1
set title 'recall: steps learnt, geometric mean (1: not even 10)'
set ylabel ''
set xlabel 'second task'
unset logscale y
unset grid
unset key
unset colorbox
set format y '%s'
set tics scale 0
set palette defined (0 '#f7fbff', 0.5 '#9ecae1', 1 '#3182bd')
set cbrange [0:log(400)]
set xrange [-0.5:words(names)-0.5]
set yrange [learnt-0.5:-0.5]
set xtics ()
set ytics ()
do for [i=1:words(names)] { set xtics add (word(names, i) i-1) }
rest = networks
do for [i=0:learnt-1] {
    set ytics add (rest[:strstrt(rest, '|')-1] i)
    rest = rest[strstrt(rest, '|')+1:]
}
set style fill solid noborder
if (learnt > 0) plot for [i=0:learnt-1] 'gradients_learnt.tsv' index i using 1:(i):(0.5):(0.5):(log($2)) with boxxyerror fc palette, \
    for [i=0:learnt-1] '' index i using 1:(i):(sprintf('%.0f', $2)) with labels
unset multiplot
