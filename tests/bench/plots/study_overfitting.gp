# study_overfitting.gp    gaps by updates, a panel for each set and amount; study_overfitting.py gives out, panels, titles (A|B|..)
# and overfitting_N.tsv (four series)
set terminal svg size 1200,60+290*((panels + 3) / 4) font 'Helvetica,12' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'study_overfitting.gp')-1].'style.gp'
set multiplot layout (panels + 3) / 4,4 title 'Validation loss less training loss, mean over tasks, by updates'
set key bottom right samplen 1.5
set yrange [*:*]
set xtics 500
rest = titles
do for [i=0:panels-1] {
    set title rest[:strstrt(rest, '|')-1]
    rest = rest[strstrt(rest, '|')+1:]
    if (i > 0) { set key off }
    plot for [k=0:3] 'overfitting_'.i.'.tsv' index k using 1:2 with lines lt 1+k%2 dt 1+k/2
}
unset multiplot
